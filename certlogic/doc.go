// Package certlogic parses, checks, evaluates and explains the business rules
// of the EU Digital COVID Certificate: CertLogic expressions, and the rules,
// value sets and rule sets around them.
//
// It implements the CertLogic specification 1.3.3 (every operation: var, if,
// and, ===, in, <, >, <=, >=, after, before, not-after, not-before, +, !,
// plusTime, dccDateOfBirth, reduce, extractFromUVCI) and the rule format of the
// EU's "DCC validation rules" guidelines.
//
// What the package promises:
//   - An expression is parsed once. What is wrong with it is reported at once,
//     each problem with its line, column and path; a parsed expression is
//     well-formed, immutable and safe for concurrent use.
//   - Evaluation follows the specification where implementations differ: a value
//     that is neither truthy nor falsy (a date-time, a number that is no
//     integer) as a condition is an error, date-times are values of their own
//     that equal no string, a partial date means the last day of its period,
//     leap days roll over as in ECMAScript's Date, milliseconds are truncated.
//   - A rule passes only if its logic evaluates to true. What could not be
//     evaluated is open, never passed.
//   - Input from outside cannot make it panic, recurse deeply, or work or
//     allocate without bound: see the Max constants.
//
// What it refuses: date-times that do not exist (2021-02-30), literals that the
// specification does not allow (null, objects, fractions), paths with empty
// fragments, expressions with a problem anywhere, even where evaluation would
// not get to. ParseTolerant is for rules of others that must be applied as they
// are.
//
// Errors name a position in the rule and the kind of a value, never a value of
// the certificate. An [Explanation] does hold values of the certificate: it is
// for the person who holds it.
package certlogic
