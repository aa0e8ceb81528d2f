"""Measure a judge against verdicts that are known: agreement, kappa, errors by arm, and effects put right.

    python -m launch.calibrate_judge --config=configs/judges.py --import_csv=DIR --workdir=runs/exact_match
    python -m launch.calibrate_judge --config=configs/world.py --workdir=runs/world --labels=labels.json

The first form judges published answers (DIR/<model>/<arm>/<task>_<arm>_outputs.csv) with the judge of the config and
compares with the verdicts in the files; it resumes what was begun in --workdir. The second compares the verdicts of a
run with the labels that people gave on a page of launch.annotate. Both print tables and write calibration.json and
disagreements.jsonl to --workdir. Of each task, half of the questions may be looked at (--seed decides which); rules
that are made on them are tried on both halves.
"""

from absl import flags

from launch import stage


def main(argv: list[str]) -> None:
    """Judges, compares, prints and writes."""
    stage.check_flags(argv)
    values = flags.FLAGS
    stage.require(values.config, 'expected --config, got none; for instance --config=configs/judges.py')
    stage.require(
        bool(values.import_csv) != bool(values.labels), 'expected one of --import_csv and --labels, got both or neither'
    )
    stage.prepare()
    with stage.explained():
        import rich.console
        from etils import epath

        from warmjax import settings, stages
        from warmjax.annotation import labels
        from warmjax.evals import calibration
        from warmjax.stats.rows import AnalysisSettings

        if values.import_csv:
            sections = settings.plain(values.config)
            chosen = settings.from_config(calibration.CalibrationSettings, sections, 'config')
            report = calibration.on_published(
                chosen, values.import_csv, values.workdir, values.seed, values.known, values.listed
            )
        else:
            workdir = epath.Path(values.workdir)
            sections = settings.plain(values.config)
            analysis = settings.from_config(AnalysisSettings, sections['analysis'], 'config.analysis')
            known, questions = labels.read(values.labels, workdir), stages.read_questions(workdir)
            report = calibration.on_labels(known, questions, analysis, workdir, values.seed, values.listed)
        console = rich.console.Console()
        console = rich.console.Console(width=max(console.width, 110))
        for table in calibration.tables(report):
            console.print(table)


if __name__ == '__main__':
    stage.define_run_flags()
    flags.DEFINE_string('import_csv', None, 'Folder of answers with verdicts, in the CSV columns of the study.')
    flags.DEFINE_string('labels', None, "A file downloaded from a page of launch.annotate, of this run's answers.")
    flags.DEFINE_integer('seed', 0, 'Decides which questions are in which half.')
    flags.DEFINE_enum(
        'known',
        'development',
        ['all', 'development'],
        'With --import_csv: the verdicts that correct the effects: all, or those of a half as if no others were known.',
    )
    flags.DEFINE_enum(
        'listed', 'development', ['development', 'held_out', 'all'], 'The half whose disagreements are written out.'
    )
    stage.run(main, __doc__)
