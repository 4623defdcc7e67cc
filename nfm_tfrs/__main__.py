"""`python -m nfm_tfrs`: the command line."""

from nfm_tfrs.cli.app import main

main()
