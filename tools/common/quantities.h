// Amounts as people write them on a command line.
#pragma once

#include <cstdint>
#include <string>

namespace qwb {

// Bytes: "500", "500B", "1.5GB" (kB, MB, GB, TB: powers of 1000; KiB, MiB, GiB, TiB: powers of
// 1024; a bare k, M, G or T is a power of 1000; case does not matter). Throws usage.
int64_t parse_bytes(const std::string& text);
// Seconds: "90s", "15m", "12h", "30d", "2w"; a bare number is seconds. Throws usage.
int64_t parse_age(const std::string& text);
// "2026-01-31 09:05", local time.
std::string local_time(int64_t unix_seconds);

}  // namespace qwb
