package fsm

// Kind numbers a command in the log. Numbers are given by hand, once, and never
// change or return: logs of every release must stay readable.
type Kind uint8

// The command table.
const (
	KindInitCluster   Kind = 1
	KindPutNode       Kind = 2
	KindSetNodeStatus Kind = 3
	KindRemoveNode    Kind = 4
	KindPutService    Kind = 5
	KindRemoveService Kind = 6
	KindScaleByHand   Kind = 7
	KindDecide        Kind = 8
	KindPlace         Kind = 9
	KindSetStatus     Kind = 10
	KindRelaunch      Kind = 11
	KindBackOff       Kind = 12
	KindDrain         Kind = 13
	KindStop          Kind = 14
	KindForget        Kind = 15
	KindObserve       Kind = 16
	KindTakeTurns     Kind = 17
	KindNote          Kind = 18

	// Roll-outs and moves have 20 to 29.
	KindRenew      Kind = 20
	KindRollBack   Kind = 21
	KindEndRollout Kind = 22
	KindDrainNode  Kind = 23

	// Who may take part has 30 to 39.
	KindAdmit         Kind = 30
	KindPutToken      Kind = 31
	KindGrant         Kind = 32
	KindRevoke        Kind = 33
	KindAddAuthority  Kind = 34
	KindSetSigner     Kind = 35
	KindDropAuthority Kind = 36
	KindSetGossipKeys Kind = 37
)

// format is how one kind of command stands in the log.
type format struct {
	// version is the version byte that this release writes, and the highest it
	// reads. It rises alone, when the meaning of this kind changes: an older node
	// goes on until it meets a command of that kind, and not before.
	version byte
	decode  func(body []byte) (Command, error)
}

// formats is the table of commands: one line a kind, which no release takes away.
// What it does not have, or has in a lower version, was written by a newer release;
// a node that meets it stops, for it would diverge if it guessed.
var formats = [256]format{
	KindInitCluster:   {1, decodeAs[InitCluster]},
	KindPutNode:       {1, decodeAs[PutNode]},
	KindSetNodeStatus: {1, decodeAs[SetNodeStatus]},
	KindRemoveNode:    {1, decodeAs[RemoveNode]},
	KindPutService:    {1, decodeAs[PutService]},
	KindRemoveService: {1, decodeAs[RemoveService]},
	KindScaleByHand:   {1, decodeAs[ScaleByHand]},
	KindDecide:        {1, decodeAs[Decide]},
	KindPlace:         {1, decodeAs[Place]},
	KindSetStatus:     {1, decodeAs[SetStatus]},
	KindRelaunch:      {1, decodeAs[Relaunch]},
	KindBackOff:       {1, decodeAs[BackOff]},
	KindDrain:         {1, decodeAs[Drain]},
	KindStop:          {1, decodeAs[Stop]},
	KindForget:        {1, decodeAs[Forget]},
	KindObserve:       {1, decodeAs[Observe]},
	KindTakeTurns:     {1, decodeAs[TakeTurns]},
	KindNote:          {1, decodeAs[Note]},

	KindRenew:      {1, decodeAs[Renew]},
	KindRollBack:   {1, decodeAs[RollBack]},
	KindEndRollout: {1, decodeAs[EndRollout]},
	KindDrainNode:  {1, decodeAs[DrainNode]},

	KindAdmit:         {1, decodeAs[Admit]},
	KindPutToken:      {1, decodeAs[PutToken]},
	KindGrant:         {1, decodeAs[Grant]},
	KindRevoke:        {1, decodeAs[Revoke]},
	KindAddAuthority:  {1, decodeAs[AddAuthority]},
	KindSetSigner:     {1, decodeAs[SetSigner]},
	KindDropAuthority: {1, decodeAs[DropAuthority]},
	KindSetGossipKeys: {1, decodeAs[SetGossipKeys]},
}

// Command is one change of the state.
type Command interface {
	Kind() Kind
	apply(*draft) (any, error)
}

// InitCluster is the first command of every log; it gives the cluster its ID, and what
// nodes and people are known by.
type InitCluster struct {
	ClusterID string     `json:"cluster_id"`
	Authority *Authority `json:"authority,omitempty"`
	Gossip    *GossipKey `json:"gossip,omitempty"`
	Token     *JoinToken `json:"token,omitempty"`
	By        string     `json:"by,omitempty"`
}

// PutNode adds a node, which becomes alive, or changes its addresses or version.
// One that had left is alive again; one that is dead is so once the leader sees it.
type PutNode struct {
	Node Node `json:"node"`
}

// SetNodeStatus records what the leader believes of a node.
type SetNodeStatus struct {
	ID     string     `json:"id"`
	Seen   uint64     `json:"seen"` // Node.Index
	Status NodeStatus `json:"status"`
	Reason string     `json:"reason,omitempty"`
	// Revoke shuts its key out at once.
	Revoke bool   `json:"revoke,omitempty"`
	By     string `json:"by,omitempty"`
}

// RemoveNode takes a node without containers out of the table, and shuts its key out.
type RemoveNode struct {
	ID string `json:"id"`
	By string `json:"by,omitempty"`
}

// PutService adds a service or replaces its spec, which makes a revision. Seen is
// the Service.Index it was made from, Base the revision, 0 for whatever there is.
// Restart, chosen anew for each wish, has every container replaced though the spec
// be the same. ImageID is what the image means where it was asked; another one than
// before is a change, since a tag may be given to a new image.
type PutService struct {
	Spec    Spec   `json:"spec"`
	Seen    uint64 `json:"seen,omitempty"`
	Base    uint64 `json:"base,omitempty"`
	Restart string `json:"restart,omitempty"`
	ImageID string `json:"image_id,omitempty"`
	By      string `json:"by,omitempty"`
	Why     string `json:"why,omitempty"`
}

// RemoveService asks for the end of a service; when its last container is gone
// the service goes too.
type RemoveService struct {
	Name string `json:"name"`
	By   string `json:"by,omitempty"`
}

// ScaleByHand fixes the number of containers; Count 0 gives it back to the rule.
type ScaleByHand struct {
	Service string `json:"service"`
	Count   int    `json:"count"`
	By      string `json:"by,omitempty"`
}

// Decide records a scale decision.
type Decide struct {
	Service  string   `json:"service"`
	Seen     uint64   `json:"seen"` // Service.Index
	Decision Decision `json:"decision"`
}

// Place adds a row: generation 1, to be started by Node.
type Place struct {
	Service string `json:"service"`
	Number  int    `json:"number"`
	Node    string `json:"node"`
	Port    int    `json:"port"`
	Reason  string `json:"reason,omitempty"`
	StandIn bool   `json:"stand_in,omitempty"`
}

// Row names a row and the version of it that a command was born from.
type Row struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	Seen       uint64 `json:"seen"` // Container.Index
}

// SetStatus records the verdict of the health API.
type SetStatus struct {
	Row    Row    `json:"row"`
	Status bool   `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Relaunch begins the next generation of a row, on Node and Port.
type Relaunch struct {
	Row      Row    `json:"row"`
	Node     string `json:"node"`
	Port     int    `json:"port"`
	Failures int    `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}

// BackOff makes a row wait until RetryAt (stamp, ms) before its next relaunch.
type BackOff struct {
	Row      Row    `json:"row"`
	RetryAt  int64  `json:"retry_at"`
	Failures int    `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}

// Drain takes a row out of rotation for good; Deadline is a stamp, ms.
type Drain struct {
	Row      Row    `json:"row"`
	Deadline int64  `json:"deadline"`
	Reason   string `json:"reason,omitempty"`
}

// Stop tells the owner to stop a drained row. The row goes when it has.
type Stop struct {
	Row    Row    `json:"row"`
	Reason string `json:"reason,omitempty"`
}

// Forget removes a row that is to stop and whose node cannot say that it has.
type Forget struct {
	Row    Row    `json:"row"`
	Reason string `json:"reason,omitempty"`
}

// Observe is the owning node's report of one of its rows. It needs no Seen:
// phases of a generation only go forward. Created is the row's, so that a late
// report of a row that is gone does not meet its successor; 0 is whichever.
type Observe struct {
	Node       string `json:"node"`
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	Created    uint64 `json:"created,omitempty"`
	Phase      Phase  `json:"phase"`
	LocalAddr  string `json:"local_addr,omitempty"`
	PortTaken  bool   `json:"port_taken,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// TakeTurns issues Count turns to a node and counts Served requests. Its result
// is the first turn, a uint64. The same (Epoch, Seq) again gives the same run.
type TakeTurns struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"`
	Seq     uint64 `json:"seq"`
	Count   uint64 `json:"count"`
	Served  uint64 `json:"served"`
}

// Note adds an event that changes nothing else. ID is chosen by the proposer so
// that a repeated note stands once; without an ID it stands as often as it is said.
type Note struct {
	ID      string `json:"id"`
	What    string `json:"kind"`
	Service string `json:"service,omitempty"`
	Number  int    `json:"number,omitempty"`
	Node    string `json:"node,omitempty"`
	Reason  string `json:"reason,omitempty"`
	By      string `json:"by,omitempty"`
}

// Renew drains a row and has it begin anew on Node, with the service's newest build
// (Build, else it is stale), when it has stopped: same number, same port.
type Renew struct {
	Row      Row    `json:"row"`
	Node     string `json:"node"`
	Build    uint64 `json:"build"`
	Deadline int64  `json:"deadline"` // of the drain; a stamp, ms
	Reason   string `json:"reason,omitempty"`
}

// RollBack takes a service from revision Left, its newest, back to what revision To
// was, as a new revision. Failed says that Left has shown to be no good.
type RollBack struct {
	Service string `json:"service"`
	Left    uint64 `json:"left"`
	To      uint64 `json:"to"`
	Failed  bool   `json:"failed,omitempty"`
	By      string `json:"by,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// EndRollout records what became of a service's newest revision.
type EndRollout struct {
	Service  string  `json:"service"`
	Revision uint64  `json:"revision"`
	Outcome  Outcome `json:"outcome"` // good or failed
	Reason   string  `json:"reason,omitempty"`
}

// DrainNode has a node's containers made elsewhere until Deadline (stamp, ms) and no
// more put there; Deadline 0 ends that.
type DrainNode struct {
	ID       string `json:"id"`
	Deadline int64  `json:"deadline,omitempty"`
	By       string `json:"by,omitempty"`
}

// Kind of each command.
func (InitCluster) Kind() Kind   { return KindInitCluster }
func (PutNode) Kind() Kind       { return KindPutNode }
func (SetNodeStatus) Kind() Kind { return KindSetNodeStatus }
func (RemoveNode) Kind() Kind    { return KindRemoveNode }
func (PutService) Kind() Kind    { return KindPutService }
func (RemoveService) Kind() Kind { return KindRemoveService }
func (ScaleByHand) Kind() Kind   { return KindScaleByHand }
func (Decide) Kind() Kind        { return KindDecide }
func (Place) Kind() Kind         { return KindPlace }
func (SetStatus) Kind() Kind     { return KindSetStatus }
func (Relaunch) Kind() Kind      { return KindRelaunch }
func (BackOff) Kind() Kind       { return KindBackOff }
func (Drain) Kind() Kind         { return KindDrain }
func (Stop) Kind() Kind          { return KindStop }
func (Forget) Kind() Kind        { return KindForget }
func (Observe) Kind() Kind       { return KindObserve }
func (TakeTurns) Kind() Kind     { return KindTakeTurns }
func (Note) Kind() Kind          { return KindNote }
func (Renew) Kind() Kind         { return KindRenew }
func (RollBack) Kind() Kind      { return KindRollBack }
func (EndRollout) Kind() Kind    { return KindEndRollout }
func (DrainNode) Kind() Kind     { return KindDrainNode }
