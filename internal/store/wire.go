package store

// Wire is how an operation is sent to the servers.
type Wire struct {
	Command  string // the name of the command, in lower case; "" if there are several different ones, or none
	Script   string // the name of the script that it runs, if it runs one
	Commands int    // how many commands there are; 0 if that is not known
}

// Add adds a command.
func (w *Wire) Add(command, script string) {
	if w.Commands == 0 {
		w.Command, w.Script = command, script
	}
	if w.Command != command {
		w.Command = ""
	}
	if w.Script != script {
		w.Script = ""
	}
	w.Commands++
}
