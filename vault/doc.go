// Package vault holds credentials: Secret, which cannot be printed; Credential, which says where one secret comes from; and the
// client of HashiCorp Vault, which reads secrets, renews them and gives each connection the one of now.
//
//	Config ──▶ Client ──login──▶ token ──read──▶ answer ──▶ Values ──▶ Entry ──▶ whoever connects
//	              ▲                │                │                      │
//	              └── Run: renews the token, renews leases or reads anew ◀─┘ when one is due, or was refused
//
// An Entry is one secret of the configuration, known before Vault was asked. Client.Start reads each once; Client.Run keeps
// them fresh; Entry.Current gives what is held. Whoever was refused with it says so (Entry.Refused), and whoever lives on it
// hears of a newer one (Entry.Changed).
//
// While Vault is away, what is held is used until it ends. What never ends by itself (a key-value secret, the password of a
// static role) is used until Vault says otherwise. Nothing of Vault's answers gets into an error but its own words, with every
// secret that was sent taken out of them.
package vault
