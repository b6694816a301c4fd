"""``python -m bytenorm.cli``: as ``python -m bytenorm``."""

from . import command

command()
