package report

import "sasyncd/cmd/internal/judge"

// Judged is a judgement as it is told.
func Judged(v judge.Verdict) Verdict {
	out := Verdict{Fit: v.Answer == judge.Yes, Answer: answers[v.Answer], Summary: v.Answer.String(),
		Reasons: []Problem{}, Warnings: []Problem{}}
	for _, f := range v.Findings {
		p := Problem{Code: string(f.Code), Severity: f.Severity.String(), Group: f.Group, Member: f.Member,
			What: f.Cause, Remedy: f.Remedy}
		if f.Severity <= judge.Unknown {
			out.Reasons = append(out.Reasons, p)
		} else {
			out.Warnings = append(out.Warnings, p)
		}
	}
	return out
}

// ThisGateway is the Member of problems of the gateway that was asked.
const ThisGateway = judge.ThisGateway

// Answers of a Verdict.
const (
	AnswerYes     = "yes"
	AnswerNo      = "no"
	AnswerUnknown = "cannot tell"
)

var answers = map[judge.Answer]string{judge.Yes: AnswerYes, judge.No: AnswerNo, judge.CannotTell: AnswerUnknown}
