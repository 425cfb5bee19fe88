#!/usr/bin/env bash
# Makes a CA and a certificate for each server into /certs, unless they are there. The keys belong to
# the users the servers run as.
set -euo pipefail
cd /certs
[ -f done ] && exit 0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
	-subj "/CN=walferry trial CA" -keyout ca.key -out ca.pem
# certificate NAME OWNER: the key belongs to the uid that the server has in its image.
certificate() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
		-subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
		-extfile <(printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1' "$1") -out "$1.pem"
	chown "$2" "$1.key"
	chmod 0600 "$1.key"
	chmod 0644 "$1.pem"
}
certificate postgres 999
certificate redpanda 101
certificate vault 100
chmod 0644 ca.pem
# Vault's PKI issues the clients' certificates as this CA: vault-setup.sh, which runs as root, reads it.
chmod 0600 ca.key
rm -f ./*.csr
touch done
