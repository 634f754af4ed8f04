// A certificate that no system trusts, for a server of the tests.
#pragma once

#include <string>

namespace qwb::testing {

// Writes cert.pem (self-signed, for this IP address), key.pem, and ca.pem (the certificate again,
// to be trusted).
void make_certificate(const std::string& folder, const std::string& address);

}  // namespace qwb::testing
