"""The command line: one file a command."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.cli.app import app as app
    from nfm_tfrs.cli.app import main as main

lazy.show(__name__, {"nfm_tfrs.cli.app": ("app", "main")})
