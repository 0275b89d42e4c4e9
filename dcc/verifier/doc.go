// Package verifier is a member state's verifier service: it keeps the document
// signers that the EU's trust list vouches for, hands them to verifier apps,
// and verifies certificates for callers who cannot do it themselves.
//
// It promises that only document signers proven up to the trust anchor are
// handed out or verified with, that an error never empties the list, that a
// deletion is reported to those who ask for changes, and that nothing of a
// certificate that is verified here is stored or logged.
//
// It refuses nothing about a certificate silently: POST /verify answers with
// the stage of the chain at which it failed and why. With a country of arrival
// (and a region and the reader's language) it also applies that country's
// business rules and the issuing country's invalidations, and explains those
// that fail; what could not be checked is not valid.
//
// The interface is dgca-verifier-service's (the resume-token download, the
// bulk download, the status list and its delta), and beside it GET /trustlist
// for offline verification and POST /verify.
package verifier
