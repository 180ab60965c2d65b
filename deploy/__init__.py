"""The cluster of `docker-compose.yml` as processes of one machine: `make cluster`."""
