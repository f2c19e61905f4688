package daemon

// Failure is what control programs print with -j instead of an answer.
type Failure struct {
	Error string `json:"error"`
	Code  int    `json:"code"` // the exit code
}

// Done is what control programs print with -j after an order that has no other
// answer.
type Done struct {
	OK bool `json:"ok"`
}
