// Package revocation says whether a health certificate was revoked: the
// batches that countries upload to the EU gateway, the hashes by which they
// name certificates, and a list on disk that holds a hundred million of them
// and answers from memory.
//
// What the package promises:
//   - A List answers exactly. Its filter, 18.5 bits an entry in memory, lets
//     fewer than one in 2¹⁶ of the certificates that were not revoked through
//     to the file, and every answer "revoked" was read there, byte for byte.
//   - A batch revokes certificates of the country that uploaded it and, where it
//     names a document signer, of that signer only; what has expired revokes
//     nothing.
//   - Whoever chooses the hashes cannot make look-ups slow: places are
//     given by SipHash under a key that the list drew for itself.
//   - A list is built in one pass over the batches, in memory below twice the
//     filter's size, and appears under its name complete or not at all.
//   - Damage is an error, never an answer: the filter is checked when it is
//     opened, a record when it is read.
//
// It refuses batches over 1,000 entries, hashes that are not 128 bits, and
// fields that the gateway would refuse. Whether the country signed its batch is
// for package trustlist to say (CMS), before the batch comes here.
//
// The hashes are the EU gateway's: SHA-256, first 128 bits, of the signature
// (of ECDSA the first half, r), of the certificate's identifier, or of the
// issuing country with the identifier behind it.
package revocation
