"""What can be asked of a model, one step at a time: a pair, a folder, another threshold."""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, cast, get_args

from twin_dcal.data.paths import as_written
from twin_dcal.data.video import is_video
from twin_dcal.errors import ConfigError, ImageError, ManifestError, TwinDcalError
from twin_dcal.evaluation.match_names import short_ids
from twin_dcal.extraction.listing import images_below
from twin_dcal.files import disk_full_error, replacing, write_text
from twin_dcal.inference.aligning import Align, Faces, Prepared, is_shared, of_both
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.given import as_path
from twin_dcal.inference.result import TemplateResult, VerificationResult
from twin_dcal.inference.templates import Fuse
from twin_dcal.model_file.familiarity import UNLIKE
from twin_dcal.model_file.provenance import training_warnings
from twin_dcal.names import one_a_line, printable
from twin_dcal.percent import percent
from twin_dcal.plural import plural
from twin_dcal.spelling import nearest

from .faces import face_choices
from .names import captions, result_name
from .picture import save_pair_picture, warning_lines
from .wording import decision_words, pairs_table, photographs_table, told

HELP = """verify A B     decide on two pictures (quote paths with spaces)
folder P       decide on all pairs of a folder
threshold V    decide at this similarity (-1 to 1) from now on; without V, show the present one
probability P  decide at the similarity with this score (0 to 1) from now on
face W [W]     of a picture with several faces: largest, or a number from the left (1 the first); two are for A and B
align HOW      find faces and align them (auto, always), or take pictures as crops (never)
help           this list
quit           leave"""
MAX_FOLDER = 200
_LETTERS = 130  # in a line of warnings above an explanation


def split_words(line: str) -> list[str]:
    """Words as a shell splits them, but a backslash stays one (C:\\faces\\a.jpg) unless a blank or a quote follows,
    which it takes into the word. ValueError for a quote without its end."""
    for taken, stands in _TAKEN.items():
        line = line.replace(f"\\{taken}", stands)
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    back = {ord(stands): taken for taken, stands in _TAKEN.items()}
    return [word.translate(back) for word in lexer]


_TAKEN = {" ": "\ue000", "'": "\ue001", '"': "\ue002"}  # private characters: in no file's name


class Session:
    """An engine, and where results go.

    Args: output_dir: for pictures and JSON; attention: explain pairs too; save_results: a JSON beside each picture;
    faces: which face of the first and of the second picture, where there are several.
    """

    def __init__(
        self,
        engine: TwinInferenceEngine,
        output_dir: Path,
        *,
        attention: bool = False,
        save_results: bool = False,
        faces: Faces = "largest",
    ) -> None:
        self.engine, self.output_dir = engine, output_dir
        self._faces = faces
        self._attention, self._save_results = attention, save_results
        self._unlike: set[str] = set()  # pictures told to be unlike those of training

    def verify(self, img1: str, img2: str) -> tuple[VerificationResult, Path]:
        """Decide on a pair and draw it; the result and the picture's path."""
        began = time.perf_counter()
        one, two = self.engine.prepare_pair(img1, img2, self._faces)
        result = self.engine.decide(one, two, began=began)
        name = result_name((img1, img2), self._faces, *self._decided_by())
        picture = self.output_dir / f"{name}{'_attention' if self._attention else ''}.png"
        if self._attention:
            result = self._explained(result, one, two, picture)
        else:
            save_pair_picture(picture, one.shown(), two.shown(), result, captions(img1, img2))
        if self._save_results:
            self._save(
                picture.with_suffix(".json"), {"img1_path": img1, "img2_path": img2, **result.to_dict()}
            )
        return result, picture

    def _explained(
        self, result: VerificationResult, one: Prepared, two: Prepared, picture: Path
    ) -> VerificationResult:
        """The result with its maps, drawn. ConfigError for an exported model."""
        from twin_dcal.explain.figure import figure_png, pair_figure

        explanation = self.engine.explain(one.pixels, two.pixels)
        title = decision_words(result.verification_decision).capitalize()
        if self.engine.source.fusion is not None:  # below, the cosine is told that the maps explain
            title = f"{title} by the similarity score {result.similarity:+.3f}"
        notes = warning_lines(result.warnings, _LETTERS)
        figure = pair_figure(explanation, one.shown(), two.shown(), title=title, notes=notes)
        with replacing(picture) as file:
            file.write(figure_png(figure))
        return replace(result, attention_maps=explanation.to_dict())

    def folder(self, folder: str) -> str:
        """Decide on all pairs of a folder; a table in words, with the pictures that cannot be used and why.

        ManifestError for fewer than two pictures or too many, ImageError where no pair can be compared.
        """
        if not is_shared(self._faces):
            raise ConfigError("one choice of a face is for a folder; two are for the pictures of a pair")
        images = images_below(as_written(str(as_path(folder, "folder"))))
        if not 2 <= len(images) <= MAX_FOLDER:
            raise ManifestError(
                f"{folder}: {plural(len(images), 'image')}; a folder of 2 to {MAX_FOLDER} can be compared pair "
                "by pair, "
                "dcal-extract --top_k_similar does larger ones"
            )
        results = self.engine.batch_verify(list(combinations(images, 2)), faces=self._faces)
        saved = None
        if self._save_results:
            saved = self.output_dir / f"pairs_{result_name([folder], self._faces, *self._decided_by())}.json"
            self._save(saved, results)
        if all(result["error"] for result in results):
            raise ImageError(f"{folder}: no two pictures can be compared; first: {results[0]['error']}")
        table = pairs_table(results, dict(zip(images, short_ids(images), strict=True)), self.doubts())
        return table if saved is None else f"{table}\nresults     {saved}"

    def told_pair(self, img1: str, img2: str, fuse: Fuse = "quality") -> tuple[VerificationResult, str]:
        """`verify`, and the result in words with the files that were written; of videos that of `told_people`."""
        if is_video(img1) or is_video(img2):
            if self._attention:
                raise ConfigError("attention is shown for two pictures; a video is several")
            return self.told_people([img1], [img2], fuse)
        result, picture = self.verify(img1, img2)
        shortened = replace(result, warnings=tuple(self._told_once(result.warnings, (img1, img2))))
        lines = [told(shortened), f"picture     {picture}"]
        if self._save_results:
            lines.append(f"result      {picture.with_suffix('.json')}")
        return result, "\n".join(lines)

    def _told_once(self, warnings: Sequence[str], images: tuple[str, str]) -> Iterator[str]:
        """Warnings of a pair, where that about pictures unlike those of training is told in full only once."""
        for warning in warnings:
            name, _, text = warning.partition(": ")
            if not text.startswith(UNLIKE):
                yield warning
                continue
            said_before = bool(self._unlike)
            self._unlike.add(images[0 if name == "img1" else 1])
            so_far = plural(len(self._unlike), "picture")
            yield f"{name}: {UNLIKE}, too ({so_far} so far)" if said_before else warning

    def told_people(
        self, photos1: Sequence[str], photos2: Sequence[str], fuse: Fuse
    ) -> tuple[TemplateResult, str]:
        """Decide on several photographs of each, and the result in words with the file that was written."""
        result = self.engine.verify(photos1, photos2, fuse=fuse, faces=self._faces)
        lines = [told(result), photographs_table(result)]
        if self._save_results:
            name = result_name(
                (photos1[0], photos2[0]), photos1, photos2, fuse, self._faces, *self._decided_by()
            )
            saved = self.output_dir / f"{name}.json"
            self._save(saved, result.to_dict())
            lines.append(f"result      {saved}")
        return result, "\n".join(lines)

    def _decided_by(self) -> tuple[object, ...]:
        """What sets one decision on the same pictures apart from another."""
        return self.engine.source.sha256, self.engine.align, self.engine.threshold

    def doubts(self) -> list[str]:
        """Why the model may decide badly, whatever the pictures."""
        return [*training_warnings(self.engine.source.training), *self.engine.deciding.about_threshold()]

    def answer(self, line: str) -> str | None:
        """What a line of the prompt gives in words; None to leave. Mistakes are answered, never raised."""
        try:
            words = split_words(line)
        except ValueError:
            return "error: a quote without its end; close it, or put a backslash before it"
        if not words:
            return ""
        command, *given = words
        if command in ("quit", "exit"):
            return None
        wanted: dict[str, tuple[tuple[int, ...], Callable[..., str]]] = {
            "verify": ((2,), self._told_pair), "folder": ((1,), self.folder),
            "threshold": ((0, 1), self._told_threshold), "probability": ((1,), self._told_probability),
            "face": ((0, 1, 2), self._told_faces), "align": ((0, 1), self._told_align), "help": ((0,), lambda: HELP),
        }  # fmt: skip
        if command not in wanted:
            return f"error: no command '{command}'{nearest(command, [*wanted, 'quit'])}\n{HELP}"
        numbers, answer = wanted[command]
        if len(given) not in numbers:
            return f"error: {command} takes {_counted(numbers)}, not {len(given)}; {_usage(command)}"
        try:
            return answer(*given)
        except (TwinDcalError, OSError) as error:  # also a full disk, or a folder that cannot be made
            return printable(f"error: {disk_full_error(error) if isinstance(error, OSError) else error}")

    def _told_pair(self, img1: str, img2: str) -> str:
        return self.told_pair(str(as_written(img1)), str(as_written(img2)))[1]

    def _told_threshold(self, value: str | None = None) -> str:
        if value is not None:
            self.engine.set_threshold(_number(value, "threshold"))
        return self.told_threshold()

    def _told_faces(self, *choices: str) -> str:
        if choices:
            self._faces = face_choices(choices, "face")
        first, second = map(str, of_both(self._faces))
        return (
            f"face {first}"
            if first == second
            else f"face {first} of the first picture, {second} of the second"
        )

    def _told_align(self, how: str | None = None) -> str:
        if how is not None:
            if how not in get_args(Align):
                raise ConfigError(f"align {how}: give one of {', '.join(get_args(Align))}")
            self.engine.align = cast(Align, how)
        return f"align {self.engine.align}"

    def _told_probability(self, value: str) -> str:
        self.engine.set_threshold_probability(_number(value, "probability"))
        return self.told_threshold()

    def told_threshold(self) -> str:
        """The threshold and the rates it has, and why it may decide badly, a line each."""
        threshold = self.engine.threshold
        rates = self.engine.rates(threshold)
        known = (
            ""
            if rates is None
            else f": FMR {percent(rates.fmr)} ({rates.on} impostors), FNMR {percent(rates.fnmr)} on validation"
        )
        doubts = [f"warning: {text}" for text in self.doubts()]
        return one_a_line([f"threshold {threshold:+.4f}{known}", *doubts])

    def _save(self, path: Path, values: Any) -> None:
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _counted(numbers: Sequence[int]) -> str:
    """How many values, in words; none is where a command shows what is set."""
    *fewer, most = [number for number in numbers if number] or [0]
    return f"{' or '.join([*map(str, fewer), plural(most, 'value')])}" if most else "nothing after it"


def _usage(command: str) -> str:
    """The command's line of the help."""
    line = next(line for line in HELP.splitlines() if line.startswith(command))
    return "write: " + " ".join(line.split())


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{what} {text}: not a number") from None
