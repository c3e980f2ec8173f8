"""``python -m kdna_deploy``."""

from kdna_deploy.cli.app import main

main()
