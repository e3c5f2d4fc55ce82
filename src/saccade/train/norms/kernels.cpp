// Batch normalization in training, with the ReLU behind it where there is one, forward and
// backward, for tensors of fp32 or bf16 in either layout. Sums are taken in fp32 over few values
// and gathered in fp64.
//
// What is saved: statistics read the input once, the rest reads it once more and writes once. The
// backward pass needs the gradient and the input only; which outputs the ReLU cut is computed again.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <omp.h>

namespace {

using std::int64_t;
using bf16 = std::uint16_t;

// Rows (channels last) or pixels (planes) whose sums are taken in fp32.
constexpr int64_t kBlock = 256;

inline float wide(float value) { return value; }

inline float wide(bf16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value) << 16;
  float found;
  std::memcpy(&found, &bits, sizeof(found));
  return found;
}

inline void narrow(float value, float& to) { to = value; }

inline void narrow(float value, bf16& to) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to even
  to = static_cast<bf16>(value != value ? 0x7fc0 : rounded);
}

struct Shape {
  int64_t batch, channels, pixels;
  int64_t rows() const { return batch * pixels; }
};

// y = max(0, scale * x + shift) in the forward pass; the mask of the backward pass.
struct Affine {
  std::vector<float> scale, shift;
  Affine(int64_t channels, const float* weight, const float* bias, const float* mean,
         const float* var, float eps)
      : scale(channels), shift(channels) {
    for (int64_t c = 0; c < channels; ++c) {
      scale[c] = weight[c] / std::sqrt(var[c] + eps);
      shift[c] = bias[c] - mean[c] * scale[c];
    }
  }
};

struct Span {
  int64_t begin, end;
};

inline Span share(int64_t total) {
  const int64_t threads = omp_get_num_threads(), mine = omp_get_thread_num();
  return {total * mine / threads, total * (mine + 1) / threads};
}

// Two sums per channel, gathered from all threads in one order, so that they are reproducible.
struct Sums {
  std::vector<std::vector<double>> of_thread;
  int64_t channels;
  Sums(int threads, int64_t count) : of_thread(threads), channels(count) {}
  std::vector<double>& mine() {
    auto& found = of_thread[omp_get_thread_num()];
    found.assign(2 * channels, 0.0);
    return found;
  }
  std::vector<double> total() const {
    std::vector<double> sum(2 * channels, 0.0);
    for (const auto& part : of_thread)
      for (size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
    return sum;
  }
};

// Three values per channel, given to what adds up one by one: a lambda that holds those of one
// channel is not vectorized over rows (g++ 12).
struct PerChannel {
  const float *first, *second, *third;
};

// Adds up two values of every element, per channel. add is called with the place of each element, the
// values of its channel and two fp32 sums, which are gathered in fp64 after kBlock.
template <class Add>
std::vector<double> sum_rows(Shape shape, PerChannel of, int threads, Add add) {
  const int64_t channels = shape.channels;
  Sums sums(threads, channels);
#pragma omp parallel num_threads(threads)
  {
    std::vector<double>& into = sums.mine();
    std::vector<float> block(2 * channels);
    float* first = block.data();
    float* second = first + channels;
    const Span rows = share(shape.rows());
    for (int64_t start = rows.begin; start < rows.end; start += kBlock) {
      std::memset(first, 0, 2 * channels * sizeof(float));
      const int64_t stop = start + kBlock < rows.end ? start + kBlock : rows.end;
      for (int64_t row = start; row < stop; ++row)
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c)
          add(row * channels + c, of.first[c], of.second[c], of.third[c], first[c], second[c]);
      for (int64_t i = 0; i < 2 * channels; ++i) into[i] += first[i];
    }
  }
  return sums.total();
}

template <class Add>
std::vector<double> sum_planes(Shape shape, PerChannel of, int threads, Add add) {
  std::vector<double> sums(2 * shape.channels, 0.0);
#pragma omp parallel for num_threads(threads)
  for (int64_t c = 0; c < shape.channels; ++c)
    for (int64_t n = 0; n < shape.batch; ++n) {
      const int64_t plane = (n * shape.channels + c) * shape.pixels;
      const Add mine = add;  // what is shared between threads is not vectorized
      const float one = of.first[c], two = of.second[c], three = of.third[c];
      for (int64_t start = 0; start < shape.pixels; start += kBlock) {
        const int64_t stop = start + kBlock < shape.pixels ? start + kBlock : shape.pixels;
        float first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
        for (int64_t p = start; p < stop; ++p) mine(plane + p, one, two, three, first, second);
        sums[c] += first;
        sums[shape.channels + c] += second;
      }
    }
  return sums;
}

template <class Add>
std::vector<double> sums_of(Shape shape, bool last, PerChannel of, int threads, Add add) {
  return last ? sum_rows(shape, of, threads, add) : sum_planes(shape, of, threads, add);
}

// Calls of(c) with the place of every element, where c is its channel.
template <class Of>
void for_all(Shape shape, bool last, int threads, Of of) {
  const int64_t channels = shape.channels, pixels = shape.pixels;
  if (last) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.rows(); ++row)
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) of(c)(row * channels + c);
    return;
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t plane = 0; plane < shape.batch * channels; ++plane) {
    const auto each = of(plane % channels);
#pragma omp simd
    for (int64_t p = 0; p < pixels; ++p) each(plane * pixels + p);
  }
}

template <class T>
std::vector<double> moments(const T* x, Shape shape, bool last, const float* around, int threads) {
  const auto add = [=](int64_t at, float middle, float, float, float& sum, float& squares) {
    const float value = wide(x[at]) - middle;
    sum += value;
    squares += value * value;
  };
  return sums_of(shape, last, {around, around, around}, threads, add);
}

template <bool Relu, class T>
void apply(const T* x, T* y, Shape shape, bool last, const Affine& affine, int threads) {
  const float* scale = affine.scale.data();
  const float* shift = affine.shift.data();
  for_all(shape, last, threads, [=](int64_t c) {
    return [=, by = scale[c], plus = shift[c]](int64_t at) {
      const float value = wide(x[at]) * by + plus;
      narrow(Relu && value <= 0 ? 0.0f : value, y[at]);
    };
  });
}

// Sums of the gradient behind the ReLU, and of its product with the centred input.
template <bool Relu, class T>
std::vector<double> gradient_sums(const T* dy, const T* x, Shape shape, bool last,
                                  const Affine& affine, const float* mean, int threads) {
  const auto add = [=](int64_t at, float by, float plus, float middle, float& sum, float& product) {
    const float value = wide(x[at]), gradient = wide(dy[at]);
    const float kept = Relu && value * by + plus <= 0 ? 0.0f : gradient;
    sum += kept;
    product += kept * (value - middle);
  };
  const PerChannel of{affine.scale.data(), affine.shift.data(), mean};
  return sums_of(shape, last, of, threads, add);
}

// dx = a * gradient + b * x + d, each per channel.
template <bool Relu, class T>
void spread(const T* dy, const T* x, T* dx, Shape shape, bool last, const Affine& affine,
            const float* b, const float* d, int threads) {
  const float* a = affine.scale.data();
  const float* shift = affine.shift.data();
  for_all(shape, last, threads, [=](int64_t c) {
    return [=, by = a[c], plus = shift[c], slope = b[c], offset = d[c]](int64_t at) {
      // Loaded where it is cut too: not every machine has masked loads of 16 bits.
      const float value = wide(x[at]), gradient = wide(dy[at]);
      const float kept = Relu && value * by + plus <= 0 ? 0.0f : gradient;
      narrow(by * kept + slope * value + offset, dx[at]);
    };
  });
}

template <class T>
void forward(const T* x, T* y, Shape shape, bool last, const float* weight, const float* bias,
             float* mean, float* var, float eps, bool relu, int threads) {
  // Around the first value of each channel, so that a large mean does not swallow the variance.
  std::vector<float> around(shape.channels);
  for (int64_t c = 0; c < shape.channels; ++c) around[c] = wide(x[last ? c : c * shape.pixels]);
  const auto sums = moments(x, shape, last, around.data(), threads);
  const double count = static_cast<double>(shape.rows());
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double off = sums[c] / count;
    const double spread = sums[shape.channels + c] / count - off * off;
    mean[c] = static_cast<float>(around[c] + off);
    // Not a number stays one.
    var[c] = static_cast<float>(spread < 0 ? 0 : spread);
  }
  const Affine affine(shape.channels, weight, bias, mean, var, eps);
  if (relu)
    apply<true>(x, y, shape, last, affine, threads);
  else
    apply<false>(x, y, shape, last, affine, threads);
}

template <class T>
void backward(const T* dy, const T* x, T* dx, Shape shape, bool last, const float* weight,
              const float* bias, const float* mean, const float* var, float eps, bool relu,
              float* dweight, float* dbias, int threads) {
  const Affine affine(shape.channels, weight, bias, mean, var, eps);
  const auto sums = relu ? gradient_sums<true>(dy, x, shape, last, affine, mean, threads)
                         : gradient_sums<false>(dy, x, shape, last, affine, mean, threads);
  const double count = static_cast<double>(shape.rows());
  std::vector<float> b(shape.channels), d(shape.channels);
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double inverse = 1.0 / std::sqrt(static_cast<double>(var[c]) + eps);
    const double gradient = sums[c], product = sums[shape.channels + c];
    const double slope = -weight[c] * inverse * inverse * inverse * product / count;
    b[c] = static_cast<float>(slope);
    d[c] = static_cast<float>(-weight[c] * inverse * gradient / count - slope * mean[c]);
    dweight[c] = static_cast<float>(product * inverse);
    dbias[c] = static_cast<float>(gradient);
  }
  if (relu)
    spread<true>(dy, x, dx, shape, last, affine, b.data(), d.data(), threads);
  else
    spread<false>(dy, x, dx, shape, last, affine, b.data(), d.data(), threads);
}

}  // namespace

extern "C" {

void saccade_norm_forward(int is_bf16, int last, int relu, int threads, int64_t batch,
                          int64_t channels, int64_t pixels, float eps, const void* x, void* y,
                          const float* weight, const float* bias, float* mean, float* var) {
  const Shape shape{batch, channels, pixels};
  if (is_bf16)
    forward(static_cast<const bf16*>(x), static_cast<bf16*>(y), shape, last, weight, bias, mean,
            var, eps, relu, threads);
  else
    forward(static_cast<const float*>(x), static_cast<float*>(y), shape, last, weight, bias, mean,
            var, eps, relu, threads);
}

void saccade_norm_backward(int is_bf16, int last, int relu, int threads, int64_t batch,
                           int64_t channels, int64_t pixels, float eps, const void* dy,
                           const void* x, void* dx, const float* weight, const float* bias,
                           const float* mean, const float* var, float* dweight, float* dbias) {
  const Shape shape{batch, channels, pixels};
  if (is_bf16)
    backward(static_cast<const bf16*>(dy), static_cast<const bf16*>(x), static_cast<bf16*>(dx),
             shape, last, weight, bias, mean, var, eps, relu, dweight, dbias, threads);
  else
    backward(static_cast<const float*>(dy), static_cast<const float*>(x), static_cast<float*>(dx),
             shape, last, weight, bias, mean, var, eps, relu, dweight, dbias, threads);
}
}
