#!/bin/sh
# Makes the namespace and registers the search attributes. Safe to run again.
set -eu
until temporal operator cluster health >/dev/null 2>&1; do sleep 2; done
temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
  temporal operator namespace create --namespace default --retention 720h
for name in LifeboatDeployment LifeboatPhase; do
  until temporal operator search-attribute list --namespace default 2>/dev/null | grep -q "$name"; do
    temporal operator search-attribute create --namespace default --name "$name" --type Keyword || sleep 2
  done
done
