package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/agent/pki"
	"orch/fsm"
)

// raftLayer carries Raft between nodes that have shown who they are.
type raftLayer struct {
	*pki.Listener
	trust *trust
}

// listenRaft opens Raft's port for the nodes of the table.
func (n *Node) listenRaft() (consensus.Layer, error) {
	l, err := net.Listen("tcp", n.cfg.RaftAddr)
	if err != nil {
		return nil, fmt.Errorf("--raft-addr: %w; stop what uses it, or choose another address", err)
	}
	t := n.trust
	t.known = n.known
	return raftLayer{pki.Listen(l, t.live.Server(false, t.checkRaft), t.conns, n.refusals.heard("raft")), t}, nil
}

// Dial implements consensus.Layer.
func (l raftLayer) Dial(id, addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.trust.dialRaft(ctx, addr, id)
}

// secureAPI opens the API for nodes and people, and for strangers who may do nothing but
// join.
func (n *Node) secureAPI(l net.Listener) net.Listener {
	t := n.trust
	leader := func() string { id, _ := n.raft.Leader(); return id }
	t.leader.Store(&leader)
	return pki.Listen(l, t.live.Server(true, nil), t.conns, n.refusals.heard("api"))
}

// identify says who sends a request, by the table of this moment: who has been shut out
// since the connection was made is so at once.
func (n *Node) identify(r *http.Request) api.Identity {
	if r.TLS == nil {
		name, _ := r.Context().Value(peerKey{}).(string)
		return api.Identity{Name: name + " on " + n.cfg.NodeID, Role: fsm.RoleAdmin}
	}
	who, ok := pki.PeerOf(r.TLS)
	if !ok || who.Stranger() {
		return api.Identity{Key: who.Key}
	}
	refused := func(err error) api.Identity { return api.Identity{Name: who.String(), Key: who.Key, Refused: err} }
	if err := n.trust.live.Again(r.TLS); err != nil {
		return refused(fmt.Errorf("%w: %w", api.ErrForbidden, err))
	}
	if err := n.trust.check(who); err != nil {
		return refused(err)
	}
	out := api.Identity{Name: who.String(), Key: who.Key, Node: who.Node}
	if who.Node != "" {
		if err := n.trust.member(who); err != nil {
			return refused(err)
		}
	}
	if p, ok := n.trust.table().Trust.Person(who.Person); ok {
		out.Role = p.Role
	}
	return out
}

type peerKey struct{}

// peerName notes who is at the other end of the operator's socket.
func peerName(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	name := "somebody"
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		name = "uid " + strconv.Itoa(int(cred.Uid))
		if account, err := user.LookupId(strconv.Itoa(int(cred.Uid))); err == nil {
			name = account.Username
		}
	})
	return context.WithValue(ctx, peerKey{}, name)
}

// listenSocket opens the operator's socket for this user and for a group, where there is
// one of that name. One that is left over from a daemon that was killed is replaced; one
// that answers is not.
func listenSocket(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("--socket: %w", err)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return nil, fmt.Errorf("--socket %q: another orchd answers there: stop it, or choose another path", path)
	case errors.Is(err, syscall.ECONNREFUSED) && isSocket(path): // nobody listens any more
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("--socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("--socket: %w", err)
	}
	// Until here the umask keeps others out: connecting needs the right to write.
	if err := cmp.Or(os.Chmod(path, 0o600), openTo(path, group)); err != nil {
		l.Close()
		return nil, fmt.Errorf("--socket: %w", err)
	}
	return l, nil
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// openTo lets a group use the socket. A group that there is not is no fault: then it is
// for this user alone.
func openTo(path, group string) error {
	g, err := user.LookupGroup(group)
	if group == "" || err != nil {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("give it to group %s: %w; choose another with --socket-group, or none with --socket-group ''", group, err)
	}
	return os.Chmod(path, 0o660)
}
