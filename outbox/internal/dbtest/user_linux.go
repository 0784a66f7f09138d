package dbtest

import (
	"os"
	"os/exec"
	"syscall"
)

// nobody is the user that servers run as for root, which they refuse to run as: on Linux
// the one without rights has this number.
const nobody = 65534

// asOther has the command run as another user if this is root, and end with this process.
func asOther(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// giveAway makes the directory that of the user.
func giveAway(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(dir, nobody, nobody)
}
