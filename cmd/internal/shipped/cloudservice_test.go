package shipped

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Secrets of the stand-ins, none of which may be printed.
const (
	accessKey    = "AKIDEXAMPLE"
	accessSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	session      = "session//token=="
	bearer       = "ya29.bearer-Token_1"
)

// cloud is a stand-in for the services of a cloud: what the examples ask of them, in
// the shape that their references give. Everything else is an error of the test.
type cloud struct {
	t    *testing.T
	name string
	url  string

	mu      sync.Mutex
	changes []string // that were accepted, in order
	refused int      // of those asked for
	asked   int      // all requests
	refuse  []int    // statuses for the next changes
	fails   bool     // operations end with an error
	stuck   bool     // operations do not end
	polls   map[string]int
	onAsk   func()
}

const azureScope = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Network/"

// clouds are the examples: configuration, and the changes that a MASTER asks for.
var clouds = map[string]struct {
	conf string
	want []string
}{
	"aws": {`REGION=eu-central-1
ADDRESSES="10.0.1.100=eni-outside 10.0.2.100=eni-inside"
ROUTES="rtb-1=10.2.0.0/24=eni-inside"
METADATA=URL EC2=URL/ec2/
`, []string{
		"POST /ec2/ Action=AssignPrivateIpAddresses&Version=2016-11-15&AllowReassignment=true&" +
			"NetworkInterfaceId=eni-outside&PrivateIpAddress.1=10.0.1.100",
		"POST /ec2/ Action=AssignPrivateIpAddresses&Version=2016-11-15&AllowReassignment=true&" +
			"NetworkInterfaceId=eni-inside&PrivateIpAddress.1=10.0.2.100",
		"POST /ec2/ Action=ReplaceRoute&Version=2016-11-15&DestinationCidrBlock=10.2.0.0%2F24&" +
			"NetworkInterfaceId=eni-inside&RouteTableId=rtb-1",
	}},
	"azure": {`SCOPE=/subscriptions/1/resourceGroups/g/providers/Microsoft.Network
INTERFACES="gw2-outside=DIR/without.json gw1-outside=DIR/with.json"
ROUTES="inside/to-branch=10.2.0.0/24=10.0.2.11"
METADATA=URL ARM=URL
`, []string{
		"PUT " + azureScope + `networkInterfaces/gw2-outside {"tags":{"say":"\"no\""}}`,
		"PUT " + azureScope + `networkInterfaces/gw1-outside {"tags":{"say":"yes"}}`,
		"PUT " + azureScope + `routeTables/inside/routes/to-branch {"properties":{"addressPrefix":"10.2.0.0/24",` +
			`"nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.2.11"}}`,
	}},
	"gcp": {`PROJECT=p
SELF=zone-a/gw1
OTHER=zone-b/gw2
ALIASES="nic1=10.0.2.100/32"
ROUTES="to-branch=10.2.0.0/24=inside"
METADATA=URL COMPUTE=URL/compute/v1
`, []string{
		`PATCH /compute/v1/projects/p/zones/zone-b/instances/gw2/updateNetworkInterface ` +
			`{"fingerprint":"print-nic1=","aliasIpRanges":[]}`,
		`PATCH /compute/v1/projects/p/zones/zone-a/instances/gw1/updateNetworkInterface ` +
			`{"fingerprint":"print-nic1=","aliasIpRanges":[{"ipCidrRange":"10.0.2.100/32"}]}`,
		`DELETE /compute/v1/projects/p/global/routes/to-branch `,
		`POST /compute/v1/projects/p/global/routes {"name":"to-branch","destRange":"10.2.0.0/24",` +
			`"network":"URL/compute/v1/projects/p/global/networks/inside",` +
			`"nextHopInstance":"URL/compute/v1/projects/p/zones/zone-a/instances/gw1"}`,
	}},
	"hetzner": {`SELF=4711
OTHER=4712
FLOATING="81"
ALIASES="99=10.0.2.100"
TOKEN=DIR/token
API=URL/v1
`, []string{
		`POST /v1/floating_ips/81/actions/assign {"server":4711}`,
		`POST /v1/servers/4712/actions/change_alias_ips {"network":99,"alias_ips":[]}`,
		`POST /v1/servers/4711/actions/change_alias_ips {"network":99,"alias_ips":["10.0.2.100"]}`,
	}},
}

func newCloud(t *testing.T, name string) *cloud {
	t.Helper()
	c := &cloud{t: t, name: name, polls: map[string]int{}}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// tokens are the requests for credentials: the header that each must have, and the answer.
var tokens = map[string][3]string{
	"aws PUT /latest/api/token":                           {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60", "imds-token"},
	"aws GET /latest/meta-data/iam/security-credentials/": {"X-Aws-Ec2-Metadata-Token", "imds-token", "gateway"},
	"aws GET /latest/meta-data/iam/security-credentials/gateway": {"X-Aws-Ec2-Metadata-Token", "imds-token",
		fmt.Sprintf("{\n \"Code\" : \"Success\",\n \"AccessKeyId\" : %q,\n \"SecretAccessKey\" : %q,\n \"Token\" : %q\n}",
			accessKey, accessSecret, session)},
	"azure GET /metadata/identity/oauth2/token": {"Metadata", "true",
		fmt.Sprintf(`{"access_token":%q,"client_id":"c","expires_in":"86399","token_type":"Bearer"}`, bearer)},
	"gcp GET /computeMetadata/v1/instance/service-accounts/default/token": {"Metadata-Flavor", "Google",
		fmt.Sprintf(`{"access_token":%q,"expires_in":3599,"token_type":"Bearer"}`, bearer)},
}

// ServeHTTP answers as the cloud does.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	b, _ := io.ReadAll(r.Body)
	body := string(b)
	if tok, ok := tokens[c.name+" "+r.Method+" "+r.URL.Path]; ok {
		if r.Header.Get(tok[0]) != tok[1] {
			c.t.Errorf("%s: header %s is %q", r.URL.Path, tok[0], r.Header.Get(tok[0]))
		}
		fmt.Fprint(w, tok[2])
		return
	}
	if c.name == "aws" {
		if err := signed(r, body); err != nil {
			c.t.Errorf("signature: %v", err)
		}
	} else if r.Header.Get("Authorization") != "Bearer "+bearer {
		c.t.Errorf("%s %s: authorization %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}
	if r.Method == http.MethodGet {
		c.get(w, r)
		return
	}
	if c.onAsk != nil {
		c.onAsk()
	}
	if len(c.refuse) > 0 {
		status := c.refuse[0]
		c.refuse = c.refuse[1:]
		c.refused++
		c.say(w, status)
		return
	}
	c.changes = append(c.changes, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
	op := fmt.Sprintf("op%d", len(c.changes))
	switch c.name {
	case "aws":
		fmt.Fprint(w, `<?xml version="1.0"?><Response><requestId>1</requestId><return>true</return></Response>`)
	case "azure":
		w.Header().Set("Azure-AsyncOperation", c.url+"/operations/"+op+"?api-version=2023-09-01")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"name":"x","properties":{"provisioningState":"Updating"}}`)
	case "gcp":
		fmt.Fprintf(w, "{\n  \"kind\": \"compute#operation\",\n  \"name\": %q,\n  \"status\": \"RUNNING\"\n}\n", op)
	case "hetzner":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"action":{"id":%d,"command":"x","status":"running","progress":0,"resources":[{"id":4711,`+
			`"type":"server"}],"error":null}}`, 1000+len(c.changes))
	}
}

// get answers the question how far an operation is, at the second time that it is done,
// and that for an interface.
func (c *cloud) get(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Path
	if c.name == "gcp" && strings.Contains(p, "/instances/") {
		if r.URL.RawQuery != "fields=networkInterfaces(name,fingerprint)" {
			c.t.Errorf("query %q", r.URL.RawQuery)
		}
		nic := func(name string) string {
			return fmt.Sprintf("  {\n   \"name\": %q,\n   \"fingerprint\": %q\n  }", name, "print-"+name+"=")
		}
		fmt.Fprintf(w, "{\n \"networkInterfaces\": [\n%s,\n%s\n ]\n}\n", nic("nic0"), nic("nic1"))
		return
	}
	at := map[string]string{"azure": `^/operations/op\d+$`, "hetzner": `^/v1/actions/100\d$`,
		"gcp": `^/compute/v1/projects/p/(zones/zone-[ab]|global)/operations/op\d+$`}[c.name]
	if at == "" || !regexp.MustCompile(at).MatchString(p) {
		c.t.Errorf("nobody is asked for %s %s", r.Method, r.URL)
		return
	}
	c.polls[p]++
	done := c.polls[p] > 1 && !c.stuck
	answer := map[string][3]string{
		"azure": {`{"status":"InProgress"}`, `{"status":"Succeeded"}`,
			`{"status":"Failed","error":{"code":"Conflict","message":"it quotes ` + bearer + `"}}`},
		"gcp": {"{\n \"name\": \"op1\",\n \"status\": \"RUNNING\"\n}",
			"{\n \"name\": \"op1\",\n \"status\": \"DONE\"\n}",
			`{"name": "op1", "status": "DONE", "error": {"errors": [ {"code": "QUOTA_EXCEEDED", "message": "x"} ]}}`},
		"hetzner": {`{"action":{"id":1001,"status":"running","error":null}}`,
			`{"action":{"id":1001,"status":"success","error":null}}`,
			`{"action":{"id":1001,"status":"error","error":{"code":"action_failed","message":"x"}}}`},
	}[c.name]
	switch {
	case !done:
		fmt.Fprint(w, answer[0])
	case c.fails:
		fmt.Fprint(w, answer[2])
	default:
		fmt.Fprint(w, answer[1])
	}
}

// say refuses, in the cloud's words, and quotes secrets, as services may.
func (c *cloud) say(w http.ResponseWriter, status int) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	if c.name == "aws" {
		code := map[int]string{503: "RequestLimitExceeded", 403: "UnauthorizedOperation"}[status]
		fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s %s</Message></Error></Errors></Response>",
			cmp.Or(code, "IncorrectState"), accessSecret, session)
		return
	}
	fmt.Fprintf(w, `{"error":{"code":"refused_by_%s","message":"of %s"}}`, c.name, bearer)
}

// signed checks AWS's signature, version 4, of a request: of all that must be signed.
func signed(r *http.Request, body string) error {
	m := regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/eu-central-1/ec2/aws4_request), ` +
		`SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`).FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil || m[1] != accessKey {
		return fmt.Errorf("authorization %q", r.Header.Get("Authorization"))
	}
	if r.Header.Get("X-Amz-Security-Token") != session {
		return fmt.Errorf("token %q", r.Header.Get("X-Amz-Security-Token"))
	}
	names := strings.Split(m[3], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if !slices.Contains(names, must) {
			return fmt.Errorf("header %s is not signed, only %v", must, names)
		}
	}
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	var headers strings.Builder
	for _, n := range names {
		v := r.Header.Get(n)
		if n == "host" {
			v = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", n, strings.TrimSpace(v))
	}
	request := fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%s", r.Method, r.URL.Path, r.URL.RawQuery, headers.String(), m[3],
		sum(body))
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", r.Header.Get("X-Amz-Date"), m[2], sum(request))
	key := []byte("AWS4" + accessSecret)
	for part := range strings.SplitSeq(m[2], "/") {
		key = mac(key, part)
	}
	if hex.EncodeToString(mac(key, text)) != m[4] {
		return errors.New("the signature is wrong")
	}
	return nil
}
