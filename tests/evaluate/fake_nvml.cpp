// A libnvidia-ml that does what FAKE_NVML says: "" works, "frozen" the energy counter stands still,
// "backwards" it falls, "unsupported" it does not exist, "dead" neither does power, "mig" the card
// is divided, "off" the driver is not loaded, "empty" there is no card, "steps" 100 W of real time,
// counted every 20 ms, "bare" tells neither temperature nor limit. The card is one degree hotter at
// every look. A second of the test is one reading: 100 J by the counter, 110 W by power.
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace {
bool mode(const char* name) {
  const char* value = std::getenv("FAKE_NVML");
  return value != nullptr && std::strcmp(value, name) == 0;
}
unsigned long long g_energy = 5'000'000;

unsigned long long stepped() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const auto steps = std::chrono::duration_cast<std::chrono::milliseconds>(now).count() / 20;
  return static_cast<unsigned long long>(steps) * 2000;
}
}  // namespace

extern "C" {
int nvmlInit_v2() {
  return mode("off") ? 9 : 0;
}
int nvmlShutdown() {
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = mode("empty") ? 0 : 1;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned, void** device) {
  *device = &g_energy;
  return 0;
}
int nvmlDeviceGetName(void*, char* name, unsigned length) {
  std::strncpy(name, "Fake GPU", length);
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
  if (mode("unsupported") || mode("dead")) return 3;
  if (mode("steps")) {
    *millijoules = stepped();
    return 0;
  }
  if (mode("backwards")) g_energy -= 1000;
  if (!mode("frozen") && !mode("backwards")) g_energy += 100'000;
  *millijoules = g_energy;
  return 0;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  if (mode("dead")) return 3;
  *milliwatts = mode("steps") ? 100'000 : 110'000;
  return 0;
}
int nvmlDeviceGetTemperature(void*, int sensor, unsigned* celsius) {
  static unsigned heat = 40;
  if (sensor != 0) return 2;
  *celsius = ++heat;
  return mode("bare") ? 3 : 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) {
  *milliwatts = 350'000;
  return mode("bare") ? 3 : 0;
}
int nvmlDeviceGetMigMode(void*, unsigned* current, unsigned* pending) {
  *current = *pending = mode("mig") ? 1 : 0;
  return 0;
}
}
