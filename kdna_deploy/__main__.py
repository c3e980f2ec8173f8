"""``kdna-deploy``, and ``python -m kdna_deploy``."""

from kdna_deploy.cli.early import end_at_once


def main() -> None:
    """Run the command line; Ctrl-C ends it with a sentence from the start."""
    end_at_once()
    from kdna_deploy.cli.app import main as commands

    commands()


if __name__ == "__main__":
    main()
