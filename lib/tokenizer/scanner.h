// Hand-written scanners for the three pre-tokenization patterns of nearly all byte-level models.
// Each cuts a text into the pieces that the pattern, as a Split with behavior Isolated, would give;
// tests compare them with the PCRE2 path. About 20 times as fast.
#pragma once

#include <optional>
#include <string_view>

namespace qwb::tokenizer {

enum class KnownPattern { gpt2, llama3, qwen2 };

inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The scanner for exactly this pattern text, if there is one.
std::optional<KnownPattern> known_pattern(std::string_view pattern);

// End of the piece that begins at `at` < text.size(). `text` is valid UTF-8.
size_t scan_piece(KnownPattern pattern, std::string_view text, size_t at);

}  // namespace qwb::tokenizer
