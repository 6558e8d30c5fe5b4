package fsm

// Admit lets a node in by a join token, before it gets its certificate. It may be
// repeated: a node that is in the table with the same key costs no further use.
type Admit struct {
	Node  Node   `json:"node"`
	Token string `json:"token"` // digest of its secret
}

// PutToken makes the one join token; the one before is void.
type PutToken struct {
	Token JoinToken `json:"token"` // without Since
	By    string    `json:"by,omitempty"`
}

// Grant lets a person in, or gives another role or key to one who is.
type Grant struct {
	Person Person `json:"person"` // without Since
}

// Revoke shuts a person out.
type Revoke struct {
	Name string `json:"name"`
	By   string `json:"by,omitempty"`
}

// AddAuthority has a further CA trusted, which does not sign yet.
type AddAuthority struct {
	Seen      uint64    `json:"seen"` // Trust.Index
	Authority Authority `json:"authority"`
	By        string    `json:"by,omitempty"`
}

// SetSigner has a trusted CA sign from now on.
type SetSigner struct {
	Seen   uint64 `json:"seen"`
	Digest string `json:"digest"`
}

// DropAuthority has a CA that does not sign trusted no more.
type DropAuthority struct {
	Seen   uint64 `json:"seen"`
	Digest string `json:"digest"`
}

// SetGossipKeys replaces the keys of gossip; the first is written with.
type SetGossipKeys struct {
	Seen   uint64      `json:"seen"`
	Keys   []GossipKey `json:"keys"`
	Reason string      `json:"reason,omitempty"`
	By     string      `json:"by,omitempty"`
}

func (Admit) Kind() Kind         { return KindAdmit }
func (PutToken) Kind() Kind      { return KindPutToken }
func (Grant) Kind() Kind         { return KindGrant }
func (Revoke) Kind() Kind        { return KindRevoke }
func (AddAuthority) Kind() Kind  { return KindAddAuthority }
func (SetSigner) Kind() Kind     { return KindSetSigner }
func (DropAuthority) Kind() Kind { return KindDropAuthority }
func (SetGossipKeys) Kind() Kind { return KindSetGossipKeys }

// author is implemented by commands that a person may have asked for; it names who.
type author interface{ author() string }

// Author is who asked for a command; empty for the cluster itself.
func Author(c Command) string {
	if a, ok := c.(author); ok {
		return a.author()
	}
	return ""
}

func (c InitCluster) author() string   { return c.By }
func (c SetNodeStatus) author() string { return c.By }
func (c RemoveNode) author() string    { return c.By }
func (c PutService) author() string    { return c.By }
func (c RemoveService) author() string { return c.By }
func (c ScaleByHand) author() string   { return c.By }
func (c Note) author() string          { return c.By }
func (c RollBack) author() string      { return c.By }
func (c DrainNode) author() string     { return c.By }
func (c PutToken) author() string      { return c.By }
func (c Grant) author() string         { return c.Person.By }
func (c Revoke) author() string        { return c.By }
func (c AddAuthority) author() string  { return c.By }
func (c SetGossipKeys) author() string { return c.By }
