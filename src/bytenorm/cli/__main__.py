"""``python -m bytenorm.cli``."""

from . import command

command()
