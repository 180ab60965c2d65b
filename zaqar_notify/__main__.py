"""`python -m zaqar_notify` is `zaqar-notify`."""

from zaqar_notify.cli import main

main()
