# What walferry may do in Vault: read its own secrets, and have a certificate issued.
path "kv/data/kafka"                  { capabilities = ["read"] }
path "database/static-creds/walferry" { capabilities = ["read"] }
path "pki/issue/kafka-client"         { capabilities = ["update"] }
