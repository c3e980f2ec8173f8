"""The members of a zip archive from an untrusted source, before anything in them is used.

    names     relative, each once however it is spelled, none of them a folder or a link
    sizes     stored as they are, together no larger than the file: an archive unpacks to what it weighs
    contents  as their CRC-32 says

PyTorch's own reader checks none of this. Does not apply to archives that need not come from PyTorch: others compress.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import PurePosixPath
from typing import IO

_BLOCK = 1 << 20
_ENCRYPTED = 0x1


class DamagedArchive(ValueError):
    """With the reason."""


def open_members(stream: IO[bytes]) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """The archive in `stream`, and its members by their names below the one folder that holds them all.

    Raises:
        DamagedArchive: it is none, or not of the form above.
    """
    size = stream.seek(0, 2)
    try:
        archive = zipfile.ZipFile(stream)
    except Exception as error:  # damaged bytes lead zipfile anywhere
        raise DamagedArchive("it is cut short or no archive") from error
    members = archive.infolist()
    if not members:
        raise DamagedArchive("it is empty")
    if sum(member.file_size for member in members) > size:
        raise DamagedArchive("its members are larger than itself")
    for member in members:
        _check_form(member)
    if len({member.filename.casefold() for member in members}) != len(members):
        raise DamagedArchive("it holds two members of one name")
    folders = {member.filename.partition("/")[0] for member in members}
    if len(folders) != 1:
        raise DamagedArchive("its members do not lie in one folder")
    return archive, {member.filename.partition("/")[2]: member for member in members}


def _check_form(member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or not member.filename.isprintable():
        raise DamagedArchive("it holds a member with a strange name")
    if len(path.parts) < 2 or member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
        raise DamagedArchive("it holds something else than files in a folder")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise DamagedArchive("it is compressed, which PyTorch's archives are not")
    if member.flag_bits & _ENCRYPTED:
        raise DamagedArchive("it is encrypted")


def check_contents(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> bool:
    """Read every member once and compare it with its checksum; whether there are any.

    `torch.serialization.set_crc32_options` can leave them out.

    Raises:
        DamagedArchive: one of them has changed.
    """
    checked = any(member.CRC for member in members.values())
    if not checked:
        for member in members.values():
            del member.CRC  # zipfile compares what it reads with this, where it is
    for name, member in members.items():
        try:
            with archive.open(member) as content:
                while content.read(_BLOCK):
                    pass
        except Exception as error:  # damaged bytes lead zipfile anywhere
            raise DamagedArchive(f"the checksum of its member '{name}' does not fit") from error
    return checked
