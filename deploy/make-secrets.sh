#!/bin/sh
# Write the secrets that compose.yaml mounts, with random passwords, into a folder. Nothing that
# is there already is changed.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# Only the owner gets in here; the containers, which run as other users, get the files themselves.
chmod 700 "$folder"
cd "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret() { [ -e "$1" ] || printf '%s\n' "$2" > "$1"; }

secret postgres_password "$(random)"
secret redis_password "$(random)"
secret minio_user hub
secret minio_password "$(random)"
secret database_url "postgresql://hub:$(cat postgres_password)@postgres/hub"
secret redis_url "redis://:$(cat redis_password)@redis:6379/0"
secret blobs_url "s3://$(cat minio_user):$(cat minio_password)@minio:9000/hub?secure=false"
secret mcp-hub.toml "[auth.tokens.team]
token = \"$(random)\"
scopes = [\"read\", \"write\"]"
