#!/bin/sh
# Makes Temporal's two databases once and brings their schema to the version of this image. Safe to run again.
set -eu
schema=/etc/temporal/schema/postgresql/v12
for name in temporal visibility; do
  database=$([ "$name" = temporal ] && echo temporal || echo temporal_visibility)
  tool() { temporal-sql-tool --plugin postgres12 --ep postgresql -p 5432 -u temporal --db "$database" "$@"; }
  if [ ! -e "/state/$database" ]; then
    tool create
    tool setup-schema -v 0.0
    touch "/state/$database"
  fi
  tool update-schema -d "$schema/$name/versioned"
done
