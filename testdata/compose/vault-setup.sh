#!/bin/sh
# Makes Vault ready for walferry. It may run again.
set -eu
mounted() { vault "$1" list -format=json | grep -q "\"$2/\""; }

mounted secrets kv || vault secrets enable -path=kv -version=2 kv
vault kv get -mount=kv kafka >/dev/null 2>&1 ||
	vault kv put -mount=kv kafka user=walferry pass="$(cat /run/secrets/kafka)"

# Vault takes the role cdc over: from here on nobody else knows its password.
mounted secrets database || vault secrets enable database
vault write database/config/shop plugin_name=postgresql-database-plugin allowed_roles=walferry \
	connection_url='postgresql://{{username}}:{{password}}@postgres:5432/shop?sslmode=verify-full&sslrootcert=/certs/ca.pem' \
	username=postgres password="$(cat /run/secrets/postgres)"
vault write database/static-roles/walferry db_name=shop username=cdc rotation_period=24h

# Client certificates, by the authority that Redpanda trusts.
mounted secrets pki || vault secrets enable pki
cat /certs/ca.key /certs/ca.pem | vault write pki/config/ca pem_bundle=-
vault write pki/roles/kafka-client allowed_domains=walferry allow_bare_domains=true enforce_hostnames=false \
	server_flag=false key_type=ec key_bits=256 max_ttl=24h

vault policy write walferry /policy.hcl
mounted auth approle || vault auth enable approle
vault write auth/approle/role/walferry token_policies=walferry token_period=1h role_id=walferry
vault write -f -field=secret_id auth/approle/role/walferry/secret-id >/approle/secret-id
chown 65532 /approle/secret-id
chmod 0400 /approle/secret-id
