"""Commands for new tasks: fit, similar, predict, export."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

from metawarp.commands.options import Parser, backbone_options, column_options, given
from metawarp.reuse import files


def fit_parser() -> ArgumentParser:
    """adapt an init to a new task from a few labelled texts"""
    parser = Parser(description="Adapt an init to a task and save the task.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    _init_option(parser, 'folder, shipped or on the Hub, or "untrained" (null: general, on another backbone untrained)')
    parser.add_argument("--average", action="store_true", help="of several inits, start from their weighted mean")
    parser.add_argument("--data", type=str | None, help="few labelled texts: .csv .tsv .json .jsonl .parquet")
    parser.add_argument("--class-name", action="append", default=[], help="a class without texts; may be repeated")
    parser.add_argument("--output", type=str, required=True, help="folder for the task")
    column_options(parser)
    backbone_options(parser, of="init")
    parser.add_argument("--overwrite", action="store_true", help="write over a task in the output folder")
    return parser


def run_fit(options: Namespace) -> None:
    """Adapt, and name the classes."""
    model = files.fit(**given(options))
    print(f"{options.output}: {len(model.classes_)} classes: {', '.join(model.task_.class_names)}")


def similar_parser() -> ArgumentParser:
    """rank inits by how they suit a few labelled texts"""
    parser = Parser(description="Rank inits for a task by leave-one-out likelihood and by prompt similarity.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    _init_option(parser, "as for metawarp fit")
    parser.add_argument("--inits", type=str | None, help="a folder of folders of inits")
    parser.add_argument("--data", type=str, required=True, help="few labelled texts: .csv .tsv .json .jsonl .parquet")
    column_options(parser)
    backbone_options(parser, of="init")
    return parser


def run_similar(options: Namespace) -> None:
    """Print the ranking, the best first."""
    ranking = files.similar(**given(options))
    print(f"{'score':>6} {'prompt similarity':>18} {'log-likelihood':>15} {'accuracy':>9}   init")
    for name, one in ranking.items():
        figures = f"{one.score:>6.3f} {one.prompt_similarity:>18.3f} {one.log_likelihood:>15.3f} {one.accuracy:>9.1%}"
        print(f"{figures}   {name}")


def predict_parser() -> ArgumentParser:
    """classify texts with an adapted task"""
    parser = Parser(description="Classify texts; one JSON object a line: text, label, probabilities.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument("--task", type=str, required=True, help="folder of the task, from metawarp fit")
    parser.add_argument("--text", action="append", default=[], help="a text; may be repeated")
    parser.add_argument("--data", type=str | None, help="file of texts: .csv .tsv .json .jsonl .parquet")
    parser.add_argument("--text-column", type=str, default="text", help="column of the texts")
    parser.add_argument("--output", type=str | None, help="file for the predictions (null: print them)")
    backbone_options(parser, of="task")
    parser.add_argument("--overwrite", action="store_true", help="write over the output file")
    return parser


def run_predict(options: Namespace) -> None:
    """Print predictions, or write them."""
    arguments = given(options)
    arguments["texts"] = arguments.pop("text")
    output, overwrite = arguments.pop("output"), arguments.pop("overwrite")
    if output is not None:
        files.write_predictions(output, files.predict(**arguments), overwrite=overwrite)
        return
    for prediction in files.predict(**arguments):
        print(json.dumps(prediction, ensure_ascii=False))


def export_parser() -> ArgumentParser:
    """write an adapted task as an ONNX graph"""
    parser = Parser(description="Write a task, backbone included, as one ONNX graph: token ids in, probabilities out.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument("--task", type=str, required=True, help="folder of the task, from metawarp fit")
    parser.add_argument("--output", type=str, required=True, help="file of the graph, such as task.onnx")
    parser.add_argument("--backbone", type=str | None, help="where the task's own is found, if not by its name")
    parser.add_argument("--any-backbone", action="store_true", help="allow another one of the same widths")
    parser.add_argument("--overwrite", action="store_true", help="write over the output file")
    return parser


def run_export(options: Namespace) -> None:
    """Write the graph, and name the classes."""
    model = files.export(**given(options))
    print(f"{options.output}: probabilities of {', '.join(map(str, model.classes))}")


def _init_option(parser: Parser, what: str) -> None:
    """An init, or several."""
    parser.add_argument("--init", type=list[str] | str | None, help=f'the init: {what}; "[A,B]" for several')


COMMANDS = {
    "fit": (fit_parser, run_fit),
    "similar": (similar_parser, run_similar),
    "predict": (predict_parser, run_predict),
    "export": (export_parser, run_export),
}
