"""Analysis of answers that were generated and judged elsewhere, in the CSV columns of the study's authors.

Command    python -m launch.analyze --import_csv=DIR --workdir=runs/published
Expected   On the 160 sample answers that the authors published: no clear effect, they are too few.
Cost       Seconds.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config() -> ConfigDict:
    """Returns the sections that such an analysis needs."""
    base = recipe.base()
    config = ConfigDict({'analysis': base.analysis, 'report': base.report})
    config.analysis.main_epoch = 0.0  # the files do not say
    config.report.title = 'Warmth and reliability in published answers'
    return config
