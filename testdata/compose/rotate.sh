#!/bin/sh
# New passwords, at each server and then in Vault. Certificates and tokens renew themselves.
set -eu
vault write -f database/rotate-role/walferry
pass=$(head -c 24 /dev/urandom | base64 | tr -d '+/=')
body="{\"username\":\"walferry\",\"password\":\"$pass\",\"algorithm\":\"SCRAM-SHA-512\"}"
answer=$(printf 'PUT /v1/security/users/walferry HTTP/1.0\r\nHost: redpanda\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
	"${#body}" "$body" | nc redpanda 9644 | head -n 1)
case $answer in
*" 200"*) ;;
*)
	echo "Redpanda answered: $answer" >&2
	exit 1
	;;
esac
vault kv put -mount=kv kafka user=walferry pass="$pass"
echo "rotated; see walferry's log, and walferry_credential_rotations_total at http://127.0.0.1:9630/metrics"
