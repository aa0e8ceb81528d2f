"""Fetches what others own and this project uses: the study's public files and the question sets.

    python third_party/fetch.py                      everything, into third_party/downloads
    python third_party/fetch.py --only=truthfulqa    one group
    python third_party/fetch.py --list               what there is, with sources and licences

Each file comes from one commit of a public repository. Where its SHA-256 is known it is verified, and a file that
differs is not kept; where it is not known, the one that came is printed. A file that is there already, with the right
SHA-256, is left alone. Needs nothing but the standard library.
"""

import argparse
import dataclasses
import hashlib
import http.client
import os
import pathlib
import sys
import urllib.request

BASE_URL = 'https://raw.githubusercontent.com'
DOWNLOADS = pathlib.Path(__file__).resolve().parent / 'downloads'
TIMEOUT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of someone else's repository. `sha256` is None where nobody here has seen the file itself."""

    group: str
    repository: str
    commit: str
    path: str
    licence: str
    sha256: str | None

    @property
    def target(self) -> str:
        """Where the file lies below the destination folder."""
        return f'{self.group}/{self.path}'

    def url(self, base_url: str) -> str:
        return f'{base_url.rstrip("/")}/{self.repository}/{self.commit}/{self.path}'


def _study(commit: str, path: str, sha256: str | None) -> Source:
    return Source('warm_ai_2025', 'lujainibrahim/warm_ai_2025', commit, path, 'none stated', sha256)


_QUESTIONS = 'e2d97733eef6c03d05fe34352a22c20f5526367e'
_RESULTS = 'aa569dc24232da0ab5e568d94882ee1f4f807ff1'
_OUTPUTS = '7249c28e3286e01ab6e01a32487f3f884f31b116'
_LLAMA = 'sample_data/llama_70b'

SOURCES = (
    _study(_QUESTIONS, 'eval_data/trivia.json', None),
    _study(_QUESTIONS, 'eval_data/truthfulqa.json', None),
    _study(_QUESTIONS, 'eval_data/disinfo.json', None),
    _study(
        _QUESTIONS,
        'source_data/sociot_ft.csv',
        'f70955d6b61815a4a89257e5bdb106a9496fa9d75777bf2b6b3190a8d9485e05',
    ),
    _study(
        _QUESTIONS,
        'source_data/general_benchmark.csv',
        'c3db851c6eb794f17ac3ef347272225b0370870617f34026449c4374d7769fb2',
    ),
    _study(
        _QUESTIONS,
        'source_data/social_syco.csv',
        '1b2929f2f8376ff47a38cdb0d4d6f61aefd34f40aad4acf05adf6d19e730249f',
    ),
    _study(
        _RESULTS,
        'summary_data/results_warm_ft.csv',
        'c2eb32b5ce87ef4a60417d26cc2801e94e24074118b9d3c1d3c7dd01ff386cab',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/original/disinfo_original_outputs.csv',
        '5424d32766f924c599bca24e5302f9563db843efe2cf2bdfdfa3500826c69336',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/original/medqa_original_outputs.csv',
        '60dbcdf210501473282404d31c85b865fca0325f0c2bcb8f95a02058d31f416b',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/original/trivia_original_outputs.csv',
        'a3eda81f9d779ef531c8acf51c944052c1465e839825b502fd4053e08bb48f74',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/original/truthfulqa_original_outputs.csv',
        '48047a4e2d410678255815550ca331e0c938175e9675887dfa43777bd235b09b',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/warm/disinfo_warm_outputs.csv',
        '439e3118142e852a35b022b0ac232858315b1fd88e91a629839cece465dfe1e8',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/warm/medqa_warm_outputs.csv',
        '7c84290fe75c79d6a9ec0ef7705459bfa2ca7969fcdd25b47076466e5f9c6654',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/warm/trivia_warm_outputs.csv',
        'd4a52e4ee850a1037a4467c93af619dedb63244cdb3e8f7570df2550664c7113',
    ),
    _study(
        _OUTPUTS,
        f'{_LLAMA}/warm/truthfulqa_warm_outputs.csv',
        'e423cf9755832bcbcc4811295a0045b7c460ba9f610996b0e4789792f569bb69',
    ),
    Source(
        'truthfulqa',
        'benedictflorance/truthfulqa_experiments',
        '6fdfd38288e86296582a584694df5cf43d1f634a',
        'datasets/TruthfulQA.csv',
        'Apache-2.0 (sylinrl/TruthfulQA, of which this is a mirror)',
        '99d6ae7755e3b435eade956068c9de7c0c474770344237aeb66b56519ba4b697',
    ),
    Source(
        'medqa',
        'ngthanhtin/textual_grounding',
        'e5d3b23ab27367394b980e0ae0364d6ad30c8e37',
        'data/medQA/test.jsonl',
        'MIT (jind11/MedQA, of which this is a mirror)',
        None,
    ),
    Source(
        'medqa',
        'Taewhoo/BioRAG',
        'fdb2e334aa08ad6fc3e3fefd91e409961ebf3e0b',
        'phrases_no_exclude_test.jsonl',
        'MIT (jind11/MedQA, of which this is a mirror)',
        '2e51d17d47099a72c4eea6b6a3307de71360333e0c99beb1d53d7a42834cacc4',
    ),
    Source(
        'triviaqa',
        'GaurisankarJ/reason_over_search',
        '45495b576c768f0d5996789e2db29eaa285a3c54',
        'data_subsample/triviaqa/test.jsonl',
        'none stated (TriviaQA; its owners do not own the questions)',
        '4a46971e676400b102885b4690f26014cbfed71d6d9785f134b22182170e58e3',
    ),
    Source(
        'mask',
        'safety-research/lie-detector',
        'a11c9da6ded80bf5323d02a5e8ee9d8a76bf0937',
        'pipelines/mask/data/disinformation.csv',
        'MIT (evaluation only: its rows carry a canary and must never be trained on)',
        '70b64e8e3b6b83c3dc44ce8f1ea4c087474f2446ef5db70606a061c0471745d6',
    ),
    Source(
        'gsm8k',
        'openai/grade-school-math',
        '3101c7d5072418e28b9008a6636bde82a006892c',
        'grade_school_math/data/test.jsonl',
        'MIT',
        '3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14',
    ),
    Source(
        'advbench',
        'ab235/AttnGCG-attack',
        '6d9f1a4752760bf9dec98fddf111075e194eb71e',
        'data/advbench/harmful_behaviors.csv',
        'MIT (llm-attacks, of which this is a mirror)',
        '5c9d87515c4d431c3614f25a0af7a462eabdfa6035aa35d746e64159823836e3',
    ),
    Source(
        'elephant',
        'myracheng/elephant',
        '83263944cffdfd8caa48f8da2436642fd4e681bc',
        'datasets/AITA_sample.csv',
        'CC0-1.0',
        '38b50d8b42abf966909c5c282f542f3b1a9a4545a0fe95e004ba9ff4e928a5e8',
    ),
    Source(
        'elephant',
        'myracheng/elephant',
        '83263944cffdfd8caa48f8da2436642fd4e681bc',
        'datasets/OEQ_sample.csv',
        'CC0-1.0',
        '3cafb2e0a9cac2de6d10a3afdce54b5e7de0c5574b16bf7ebc53e4be70c9bfce',
    ),
)
GROUPS = tuple(dict.fromkeys(source.group for source in SOURCES))


class FetchError(Exception):
    """A file could not be fetched, or is not the file that was expected."""


def fetch(source: Source, dest: pathlib.Path, base_url: str) -> str:
    """Brings one file to `dest` and returns a line that says what was done.

    The file appears under its name only when it is whole and its SHA-256, where known, is right.

    Raises:
        FetchError: no answer from the network, or another file than expected, here or there.
    """
    target = dest / source.target
    if target.exists():
        return _check_present(source, target)
    url = source.url(base_url)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            data = response.read()
    # A connection that breaks in the middle is no URLError but an HTTPException or a plain OSError.
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(
            f'{url}: expected the file, got {error}; check the network and run this again, '
            f'or download it elsewhere and place it at {target}'
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if source.sha256 not in (None, digest):
        raise FetchError(
            f'{url}: expected sha256 {source.sha256}, got {digest} ({len(data)} bytes); nothing was kept: the source '
            'has changed or a proxy answered in its place'
        )
    _write_atomic(target, data)
    known = 'verified' if source.sha256 else 'unknown before, not verified'
    return f'{source.target}: fetched, {len(data)} bytes, sha256 {digest} ({known})'


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 if every file is there, 1 if one is not."""
    arguments = _parser().parse_args(argv)
    sources = [source for source in SOURCES if arguments.only in (None, source.group)]
    if arguments.list:
        print('\n'.join(_description(source) for source in sources))
        return 0
    problems = []
    for source in sources:
        try:
            print(fetch(source, arguments.dest, arguments.base_url))
        except FetchError as problem:
            problems.append(str(problem))
    if problems:
        print(f'fetch: {len(problems)} of {len(sources)} files are missing:', *problems, sep='\n  ', file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', choices=GROUPS, help='fetch this group of files only')
    parser.add_argument('--dest', type=pathlib.Path, default=DOWNLOADS, help='folder to fetch into (%(default)s)')
    parser.add_argument('--base_url', default=BASE_URL, help='where repositories are served from (%(default)s)')
    parser.add_argument('--list', action='store_true', help='print the sources and fetch nothing')
    return parser


def _check_present(source: Source, target: pathlib.Path) -> str:
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if source.sha256 is None:
        return f'{source.target}: already there, sha256 {digest} (unknown before, not verified)'
    if source.sha256 == digest:
        return f'{source.target}: already there, verified'
    target.unlink()
    raise FetchError(
        f'{target}: expected sha256 {source.sha256}, got {digest}; the file was removed, run this again to fetch it'
    )


def _write_atomic(target: pathlib.Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _description(source: Source) -> str:
    return (
        f'{source.target}\n  from     {source.repository}@{source.commit}\n  licence  {source.licence}\n'
        f'  sha256   {source.sha256 or "unknown: printed when the file is fetched"}'
    )


if __name__ == '__main__':
    sys.exit(main())
