package control

import "time"

// Limits of control. Each bounds one queue, fan-out, wait or pass.
const (
	// defaultInterval is the time between two probes of a container: the original
	// orchestrator's.
	defaultInterval = time.Second
	// reapAfter is how long a node may be dead before it loses its vote, and what still
	// runs on it its place: a day, so that no night of repairs costs a quorum.
	reapAfter = 24 * time.Hour
	// defaultStable is how long a new member must have been fit without a break until
	// it gets its vote: of three voters one that comes and goes stops every write. On
	// one network two seconds are several elections; agent takes it from the profile.
	defaultStable = 2 * time.Second
	// lagLimit is how long a member may take to apply what the leader had applied, and
	// still count as one that acknowledges: several times what an idle follower hears
	// late of a commit on the slowest profile (0.4 s).
	lagLimit = 2 * time.Second

	// maxProbes at once, each a goroutine and a connection: as many as a service
	// may have containers, so that a round in which none answers still fits into
	// one interval.
	maxProbes = 512
	// maxSuspects waiting for a probe; what does not fit is found by the next round.
	maxSuspects = 256
	// maxActions of one pass: a cluster that restarts does it in steps, and a
	// wrong plan is seen before it is done.
	maxActions = 64

	// quickProbe is the time between probes of a container that has not answered
	// yet, and the least between two probes of one: short against a start of 0.2 s.
	quickProbe = 30 * time.Millisecond
	// timeoutSpare is what a probe's time-out stays below the interval.
	timeoutSpare = 100 * time.Millisecond
	// dialTimeout bounds the connecting: a removed container's bridge address says
	// nothing for 3 s, and a machine on the same network answers within a few ms.
	dialTimeout = 500 * time.Millisecond
	// settle is how long a silence waits for the others of its round: those that
	// began together time out together, give or take some scheduling.
	settle = 50 * time.Millisecond
	// opinionSpare is the time for the way of a question to the owner and back,
	// beside the probe it asks for.
	opinionSpare = 250 * time.Millisecond
	// massMinimum is the least number of rows of which more than half failing
	// looks like a fault of the one who probes.
	massMinimum = 3

	// proposeTimeout bounds one command; the next pass proposes again.
	proposeTimeout = 3 * time.Second
	// commitLimit is how long nothing may be committed until the term is given up:
	// a leader that cannot commit is none.
	commitLimit = 5 * time.Second
	// barrierTimeout bounds the catching up of a new leader.
	barrierTimeout = 10 * time.Second
	// transferTimeout bounds the handing over of leadership.
	transferTimeout = 5 * time.Second
	// firstPause and lastPause bound the wait before a term is tried again where
	// leadership could not be moved (a node alone, for one).
	firstPause = time.Second
	lastPause  = 30 * time.Second

	// drainInterval is the time between two looks at what is still in flight:
	// short, for a scale-down ends with the last answer.
	drainInterval = 100 * time.Millisecond
	// reportTimeout bounds the question to one node. One that does not answer holds
	// up a drain until its deadline, or until it is known to be dead.
	reportTimeout = 500 * time.Millisecond
	// catchUpInterval is the time between two questions to the members while a change
	// of them is due: a follower hears of a commit within twice of it.
	catchUpInterval = 100 * time.Millisecond
	// suspectAfter is how long gossip must doubt a node until the table says so:
	// shorter doubts are the noise of a busy machine.
	suspectAfter = time.Second
	// absentAfter is how long gossip may not know a node of the table before its
	// silence counts as a death: a new leader's gossip has to meet it first.
	absentAfter = 3 * time.Second
	// launchLimit is how long, beside its start time-out, a node may take to begin
	// with a row until the row is tried elsewhere.
	launchLimit = time.Minute
)
