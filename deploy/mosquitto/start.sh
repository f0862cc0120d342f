#!/bin/sh
# Makes the password file out of the environment (PASSWORD_EDGE_PUMP_01 is the one of edge-pump-01), hashed, and
# becomes the broker. MOSQUITTO_CONF and MOSQUITTO_PASSWORDS are for trying it outside its container.
set -eu
conf=${MOSQUITTO_CONF:-/mosquitto/config/mosquitto.conf}
passwords=${MOSQUITTO_PASSWORDS:-/run/mosquitto/passwords}
umask 077
env | sed -n 's/^PASSWORD_//p' | while IFS='=' read -r name password; do
  [ -n "$password" ] || { echo "PASSWORD_$name is empty: run industrialmind servers config" >&2; exit 1; }
  printf '%s:%s\n' "$(printf '%s' "$name" | tr 'A-Z_' 'a-z-')" "$password"
done > "$passwords"
mosquitto_passwd -U "$passwords"
exec mosquitto -c "$conf"
