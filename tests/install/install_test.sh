#!/bin/sh
# What is installed works without the build: the tools find the demo, and another project finds the libraries.
# usage: install_test.sh CMAKE BUILD-FOLDER C++-COMPILER
set -eu
cmake=$1 build=$2 compiler=$3
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
export QWB_CACHE="$prefix/cache"
"$cmake" --install "$build" --prefix "$prefix/first" >"$prefix/log" || { cat "$prefix/log"; exit 1; }
mv "$prefix/first" "$prefix/moved"  # a prefix can be moved

demo=$prefix/moved/share/qwb/demo
artifact=$("$prefix/moved/bin/qwb-quantize" -q --method rtn)  # the demo llama is the default
test -s "$artifact/qwb.json"
grep -q "\"path\": *\"$demo/llama\"" "$artifact/qwb.json" || { echo "not the installed demo"; head -40 "$artifact/qwb.json"; exit 1; }
for tool in "$prefix"/moved/bin/qwb-*; do
  "$tool" --version | head -1
  name=${tool##*/}
  for file in man/man1/"$name".1 bash-completion/completions/"$name" zsh/vendor-completions/_"$name" \
    fish/vendor_completions.d/"$name".fish; do
    test -s "$prefix/moved/share/$file" || { echo "$file is not installed"; exit 1; }
  done
done
if [ -x "$prefix/moved/bin/qwb-inspect" ]; then "$prefix/moved/bin/qwb-inspect" "$artifact" >/dev/null; fi
"$prefix/moved/bin/qwb-eval" "$artifact" --windows 1 --no-baseline >/dev/null

# The public headers compile with nothing but each other (who may include whom: tests/architecture).
(cd "$prefix/moved/include/qwb" && find . -name '*.h' | sort -r) >"$prefix/headers"
test "$(wc -l <"$prefix/headers")" -gt 40
sed 's/.*/#include "&"/' "$prefix/headers" |
  "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -I"$prefix/moved/include/qwb" -x c++ -

"$cmake" -S "$here/consumer" -B "$prefix/consumer" -DCMAKE_PREFIX_PATH="$prefix/moved" -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_BUILD_TYPE=Release >"$prefix/log" 2>&1 || { cat "$prefix/log"; exit 1; }
"$cmake" --build "$prefix/consumer" >"$prefix/log" 2>&1 || { cat "$prefix/log"; exit 1; }
"$prefix/consumer/consumer" "$artifact" | grep -x 'llama, 8 blocks, method rtn'

# What a tool does, without a tool: the same artifact under the same key, which the tool then finds.
make="$prefix/consumer/make_artifact $demo/llama $demo/text/calib.jsonl $QWB_CACHE"
made=$($make 2>"$prefix/log")
grep -q '^made, key' "$prefix/log" || { cat "$prefix/log"; exit 1; }
test "$($make 2>"$prefix/log")" = "$made"
grep -q '^found, key' "$prefix/log" || { cat "$prefix/log"; exit 1; }
test "$("$prefix/moved/bin/qwb-quantize" --model "$demo/llama" --method gptq --bits 4 --group-size 64 \
  --calib "$demo/text/calib.jsonl" --samples 4 --length 64 2>"$prefix/log")" = "$made"
grep -q 'answered from the cache' "$prefix/log" || { cat "$prefix/log"; exit 1; }
