package report

// Doctor is what sasyncd has to say to doctor.
type Doctor struct {
	Check    Verdict   `json:"check"`
	Gateways []Gateway `json:"gateways"` // this one first
	// CarpdSocket is where carpd of this gateway answers; "" with another election.
	CarpdSocket string `json:"carpd_socket"`
}

// Gateway is one that is followed, or a peer of the configuration.
type Gateway struct {
	Name    string `json:"name"` // of the configuration, or ThisGateway
	Host    string `json:"host"`
	Version string `json:"version"`
	Elector string `json:"elector"` // as tracker in sasyncd.conf
	Reports bool   `json:"reports"` // it has told the above, and what is judged
}

// Examination is what doctor prints with -j.
type Examination struct {
	Answer   string     `json:"answer"` // of check; "cannot tell" where sasyncd does not answer
	Gateways []Examined `json:"gateways"`
	// Elsewhere is how many problems of other gateways are left out, without -a.
	Elsewhere int `json:"elsewhere"`
}

// Examined is a gateway and what there is to say of it.
type Examined struct {
	Gateway
	Findings []Symptom `json:"findings"`
}

// Symptom is a finding of either daemon.
type Symptom struct {
	Code     string `json:"code"`
	Severity string `json:"severity"` // fails, unknown, costs, odd or note
	Problem  bool   `json:"problem"`
	Where    string `json:"where"` // group, instance, interface or setting
	What     string `json:"what"`
	Remedy   string `json:"remedy"`
}
