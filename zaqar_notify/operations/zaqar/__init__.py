"""Coming from Zaqar: `conf.py` reads a zaqar.conf, `options.py` knows its options; `stores.py`, `topics.py` and `mail.py` find
our settings for them, `lines.py` has the lines, and `translation.py` puts these together. `importing/` copies what is stored."""
