// The exception types of Tenun. Every message says what failed, where, what was expected and,
// where that helps, what to do. Formatting lives in core/check.h, so that device code, which
// cannot include fmt, can still throw and catch these.
//
//   try { matmul(a, b); } catch (const tenun::ShapeError& e) { ... e.what() ... }
#pragma once
#include <stdexcept>
#include <string>

namespace tenun {

/// Base of everything the library throws.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Sizes or ranks that do not fit together.
struct ShapeError : Error {
  using Error::Error;
};
/// A data type that an operation does not take.
struct DTypeError : Error {
  using Error::Error;
};
/// A value outside its domain (an axis, an index, a rate, an unknown name).
struct ValueError : Error {
  using Error::Error;
};
/// A device that is absent, fails, or lacks a kernel.
struct DeviceError : Error {
  using Error::Error;
};
/// An op that has no kernel on a device.
struct MissingKernel : DeviceError {
  using DeviceError::DeviceError;
};
/// No memory left, after the caches were flushed and the request was retried.
struct OutOfMemory : Error {
  using Error::Error;
};
/// A file that is missing, unreadable, malformed or cannot be written.
struct IoError : Error {
  using Error::Error;
};
/// A configuration that does not parse or does not make sense (exit code 2 of the program).
struct ConfigError : Error {
  using Error::Error;
};
/// Wrong use of the program's command line (exit code 2).
struct UsageError : Error {
  using Error::Error;
};
/// Misuse of automatic differentiation: a saved tensor overwritten, no tape, a NaN in anomaly mode.
struct AutogradError : Error {
  using Error::Error;
};

}  // namespace tenun
