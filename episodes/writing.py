"""Writing files: each appears whole or not at all."""

import glob
import os
from pathlib import Path
from threading import get_ident


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, so that a killed run leaves the old one. Its folder is made if it is missing.

    Tensors are passed serialized: safetensors' `save_file` raises no OSError, and makes files private to their owner.
    """
    part = file.with_name(f"{file.name}.{os.getpid()}-{_start_of(os.getpid())}-{get_ident()}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    for rest in file.parent.glob(f"{glob.escape(file.name)}.*-*.part"):
        if not _is_running(rest):  # the process that began it was killed
            rest.unlink(missing_ok=True)
    try:
        part.unlink(missing_ok=True)
        with open(part, "xb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _is_running(part: Path) -> bool:
    """Whether the process whose number and start are in the name of an unfinished file is still there."""
    numbers = part.name.rsplit(".", 2)[1].split("-")
    if not all(number.isdigit() for number in numbers) or len(numbers) != 3:
        return True  # a file of somebody else
    start = _start_of(int(numbers[0]))
    return start is not None and (start == int(numbers[1]) or 0 in (start, int(numbers[1])))


def _start_of(process: int) -> int | None:
    """The time at which a process started, in hundredths of a second; None if there is none of this number. Without
    psutil, which a small installation for saved tasks lacks, it is 0 for every number."""
    try:
        import psutil
    except ImportError:
        return 0
    try:
        return int(100 * psutil.Process(process).create_time())
    except psutil.Error:
        return None


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Characters that UTF-8 lacks, as in names of files that are in
    another encoding, are written as JSON escapes."""
    write_bytes(file, text.encode(errors="backslashreplace"))
