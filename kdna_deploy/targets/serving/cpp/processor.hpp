// Whether sums of int8 need a setting to be exact: on x86 without VNNI, where ONNX Runtime adds products in 16 bits.
#pragma once

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

// The instruction sets of the first processor, as Linux tells them; none where the system does not.
inline std::set<std::string> instruction_sets(const std::string& cpuinfo) {
    std::ifstream file(cpuinfo);
    for (std::string line, name; std::getline(file, line) && !line.empty();) {
        std::istringstream words(line);
        if (words >> name && name == "flags") return {std::istream_iterator<std::string>(words), {}};
    }
    return {};
}

// Where nothing is told, there is taken to be no VNNI: that costs time where it is wrong, the other guess accuracy.
inline bool int8_saturates([[maybe_unused]] const std::set<std::string>& told) {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
    const auto has = [&](std::initializer_list<const char*> all) {
        return std::all_of(all.begin(), all.end(), [&](const char* one) { return told.count(one) > 0; });
    };
    const bool of_servers = has({"avx512f", "avx512bw", "avx512dq", "avx512vl"});  // then the 256-bit form is not taken
    return !has({"avx2", "fma", of_servers ? "avx512_vnni" : "avx_vnni"});
#else
    return false;
#endif
}
