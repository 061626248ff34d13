"""The command line: metawarp train | evaluate | benchmark | fit | similar | predict | export | inits | backbones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch

from episodes import InputError
from metawarp.commands import experiments, listings, tasks
from metawarp.commands.options import Parser, fail

_COMMANDS = experiments.COMMANDS | tasks.COMMANDS | listings.COMMANDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: as on the command line, without the program's name; None: those of this process.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for package in ("episodes", "metawarp"):  # what was dropped from a corpus, how second order is taken
        logging.getLogger(package).setLevel(logging.INFO)
    about = "Few-shot text classification from meta-learned WARP prompts."
    parser = Parser(prog="metawarp", description=about, version=version("metawarp"))
    subcommands = parser.add_subcommands()
    for name, (build, _) in _COMMANDS.items():
        subcommands.add_subcommand(name, build(), help=build.__doc__)
    try:
        options = parser.instantiate(parser.parse_args(arguments))
        _COMMANDS[options.subcommand][1](options[options.subcommand])
    except (InputError, ImportError) as error:
        fail(str(error))
    except torch.OutOfMemoryError:
        fail("the device has not enough memory; lower --max-tokens, or --training.meta_batch, and --resume.")
    except KeyboardInterrupt:
        fail("interrupted; a training goes on from its last checkpoint with --resume, other commands start anew.")
    except BrokenPipeError:
        # Whoever read our output has seen enough (`metawarp predict … | head`).
        sys.stderr.close()
    except OSError as error:  # a full disk, a file that somebody took away: nothing that a traceback explains
        fail(f"{error.strerror or error}: {error.filename or 'no file named'}.")
