"""`python -m nfm_tfrs.cli`."""

from nfm_tfrs.cli.app import main

main()
