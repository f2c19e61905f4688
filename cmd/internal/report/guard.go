package report

import "time"

// Guard is the answer to guard: what the leak guard holds.
type Guard struct {
	// Walls are what it is made of: nftables, routes; empty where there is none.
	Walls []string `json:"walls"`
	// Selectors require IPsec; of these, Remembered have no policy any more.
	Selectors  int `json:"selectors"`
	Remembered int `json:"remembered"`
	// Dropped counts packets that matched one and had no SA, since the table was first set.
	// What the routes drop is not in it.
	Dropped uint64 `json:"dropped"`
	// Repairs counts how often a wall was put back that somebody had taken down.
	Repairs uint64 `json:"repairs"`
	Trouble string `json:"trouble"`  // why a wall is not as it should be, "" if all are
	LeftOut string `json:"left_out"` // policies that no wall is for, "" for none
	// Gone are the selectors without a policy.
	Gone []Gone `json:"gone"`
	// Forgotten is how many selectors this request has ended.
	Forgotten int `json:"forgotten"`
}

// Gone is a selector whose policy has gone.
type Gone struct {
	Selector string    `json:"selector"`
	Until    time.Time `json:"until"`
}
