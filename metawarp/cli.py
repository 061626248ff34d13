"""The command line: metawarp train | evaluate | fit | similar | suggest | predict | export | inits | backbones."""

import io
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch

from episodes import InputError
from episodes.errors import printable
from metawarp.commands import listings, predicting, suggesting, tasks, training
from metawarp.commands.config_file import check_config_file, config_files
from metawarp.commands.parser import Parser, fail, option_types, with_flags
from metawarp.errors import INTERRUPTED, DivergenceError, MemoryLimitError

PATHS = (
    "output",
    "data",
    "unlabelled",
    "task",
    "init",
    "inits",
    "corpus",
    "splits",
    "start",
    "backbone",
    "cache_folder",
)
"""Options whose value names a file, a folder or a model: an empty one would be the current folder."""

COMMANDS = training.COMMANDS | tasks.COMMANDS | suggesting.COMMANDS | predicting.COMMANDS | listings.COMMANDS


def create_parser() -> Parser:
    """The parser of all commands."""
    about = "Train text classifiers from class names and a few examples per class."
    parser = Parser(prog="metawarp", description=about, version=version("metawarp"))
    subcommands = parser.add_subcommands()
    for name, (build, _) in COMMANDS.items():
        subcommands.add_subcommand(name, build(), help=build.__doc__)
    return parser


class _Printable(logging.Formatter):
    """Log messages on one line, without control characters of the names and texts in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def _check_config_files(arguments: Sequence[str]) -> None:
    files = list(config_files(arguments))
    if files and arguments[0] in COMMANDS:  # the parser of a command takes time to build
        options = option_types(COMMANDS[arguments[0]][0]())
        try:
            for file in files:
                check_config_file(file, options)
        except InputError as error:
            fail(f"{error} (see metawarp {arguments[0]} --help)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, from arguments without the name of the program; None: those of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack characters of texts and class names
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for package in ("episodes", "metawarp"):  # what was dropped from a corpus, how second order is computed
        logging.getLogger(package).setLevel(logging.INFO)
    parser, arguments = create_parser(), list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    _check_config_files(arguments)
    parsed = parser.instantiate(parser.parse_args(arguments))
    options = parsed[parsed.subcommand]
    if empty := [name for name in PATHS if options.get(name) == ""]:
        fail(f"--{empty[0].replace('_', '-')} is empty; give a name, or leave the option out.")
    try:
        COMMANDS[parsed.subcommand][1](options)
    except InputError as error:
        fail(with_flags(str(error), options.keys()))
    except ImportError as error:
        fail(str(error))
    except (DivergenceError, MemoryLimitError) as error:
        fail(with_flags(str(error), options.keys()), code=1)
    except torch.OutOfMemoryError:
        advice = "lower --training.meta-batch-size, and --resume" if "resume" in options else "use --device cpu"
        fail(f"The device has not enough memory; {advice}.", code=1)
    except KeyboardInterrupt:
        advice = "continue from the last checkpoint with --resume" if "resume" in options else "run the command again"
        fail(f"Interrupted; {advice}.", code=INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has seen enough (`metawarp predict … | head`).
        sys.stderr.close()
    except OSError as error:  # a full disk, a file that was removed: nothing that a traceback explains
        place = f": {error.filename}" if error.filename else ""
        fail(f"{error.strerror or error}{place}.", code=1)
