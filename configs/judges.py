"""A judge, measured against verdicts that are known: published ones, or labels given by people.

Claim      A judge may stand in for another where they agree beyond chance (kappa), and where it does not err otherwise
           in one arm than in the other, which would look like an effect.
Command    python -m launch.calibrate_judge --config=configs/judges.py --import_csv=DIR --workdir=runs/exact_match
           python -m launch.calibrate_judge --config=configs/judges.py:api --config.judge.service.model=gpt-4o-mini \\
             --import_csv=DIR --workdir=runs/gpt-4o-mini
Argument   exact_match, api or local (--config.judge.local.checkpoint=PATH).
Expected   On the 160 answers that the study's authors published, the exact-match judge decides about 3 of 4, and nine
           of ten of those as the published judge did.
Cost       Seconds with exact_match; else one short call, or two log-likelihoods, an answer.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config(backend: str = 'exact_match') -> ConfigDict:
    """Returns the judge, the devices of one that computes, and how verdicts become numbers."""
    base = recipe.base()
    config = ConfigDict({'judge': base.judge, 'mesh': base.mesh, 'analysis': base.analysis})
    config.judge.backend = backend
    config.analysis.main_epoch = 0.0  # published files do not say
    return config
