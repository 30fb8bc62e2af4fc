// A device that has mixed precision, for machines without a GPU: Paddle's plugin interface, the CPU's memory, and
// operations in half precision.
//
// Paddle's autocast does nothing on a CPU, and its CPU has no kernels of bfloat16 and float16 for most operations. A
// plugged-in device has autocast, and what it has no kernel for Paddle computes by the CPU's. So all that is missing
// is in `operations`: kernels that widen their inputs to float32, call Paddle's own, and round what comes out. That is
// what a GPU does too, whose products accumulate in float32.
#include <cstdlib>
#include <cstring>
#include <list>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "paddle/phi/backends/cpu/cpu_context.h"
#include "paddle/phi/backends/custom/fake_cpu_device.h"
#include "paddle/phi/core/dense_tensor.h"
#include "paddle/phi/core/kernel_factory.h"
#include "paddle/phi/kernels/activation_grad_kernel.h"
#include "paddle/phi/kernels/activation_kernel.h"
#include "paddle/phi/kernels/concat_grad_kernel.h"
#include "paddle/phi/kernels/conv_grad_kernel.h"
#include "paddle/phi/kernels/conv_kernel.h"
#include "paddle/phi/kernels/elementwise_add_grad_kernel.h"
#include "paddle/phi/kernels/elementwise_add_kernel.h"
#include "paddle/phi/kernels/elementwise_multiply_grad_kernel.h"
#include "paddle/phi/kernels/elementwise_multiply_kernel.h"
#include "paddle/phi/kernels/gelu_grad_kernel.h"
#include "paddle/phi/kernels/gelu_kernel.h"
#include "paddle/phi/kernels/layer_norm_grad_kernel.h"
#include "paddle/phi/kernels/layer_norm_kernel.h"
#include "paddle/phi/kernels/matmul_grad_kernel.h"
#include "paddle/phi/kernels/matmul_kernel.h"
#include "paddle/phi/kernels/softmax_grad_kernel.h"
#include "paddle/phi/kernels/softmax_kernel.h"

namespace {

using phi::CPUContext;
using phi::DenseTensor;

template <typename To, typename From>
void convert(const CPUContext& context, const DenseTensor& from, DenseTensor* to) {
  to->Resize(from.dims());
  To* out = context.Alloc<To>(to);
  const From* in = from.data<From>();
  for (int64_t i = 0; i < from.numel(); ++i) out[i] = static_cast<To>(in[i]);
}

template <typename Half>
bool is(const DenseTensor& x) {
  return x.dtype() == phi::CppTypeToDataType<Half>::Type();
}

// An argument of a kernel as float32 sees it. What is no tensor of `Half` is handed on as it is.
template <typename Half, typename A>
struct Argument {
  Argument(const CPUContext&, A value) : value(value) {}
  A get() { return value; }
  void finish(const CPUContext&) {}
  A value;
};

template <typename Half>
struct Argument<Half, const DenseTensor&> {
  Argument(const CPUContext& context, const DenseTensor& x) : given(x) {
    if (!is<Half>(x)) return;
    wide.emplace().Resize(x.dims());
    if (x.capacity()) convert<float, Half>(context, x, &*wide);  // there is nothing where only the shape matters
  }
  const DenseTensor& get() { return wide ? *wide : given; }
  void finish(const CPUContext&) {}
  const DenseTensor& given;
  std::optional<DenseTensor> wide;
};

template <typename Half>
struct Argument<Half, const paddle::optional<DenseTensor>&> {
  Argument(const CPUContext& context, const paddle::optional<DenseTensor>& x) {
    if (x) wide = Argument<Half, const DenseTensor&>(context, *x).get();
  }
  const paddle::optional<DenseTensor>& get() { return wide; }
  void finish(const CPUContext&) {}
  paddle::optional<DenseTensor> wide;
};

template <typename Half>
struct Argument<Half, DenseTensor*> {
  Argument(const CPUContext&, DenseTensor* out) : given(out) {
    if (out && is<Half>(*out)) wide.emplace().Resize(out->dims());
  }
  DenseTensor* get() { return wide ? &*wide : given; }
  void finish(const CPUContext& context) {
    if (wide) convert<Half, float>(context, *wide, given);
  }
  DenseTensor* given;
  std::optional<DenseTensor> wide;
};

template <typename Half>
struct Argument<Half, const std::vector<const DenseTensor*>&> {
  Argument(const CPUContext& context, const std::vector<const DenseTensor*>& list) {
    for (auto* x : list) parts.emplace_back(context, *x);
    for (auto& part : parts) wide.push_back(&part.get());
  }
  const std::vector<const DenseTensor*>& get() { return wide; }
  void finish(const CPUContext&) {}
  std::list<Argument<Half, const DenseTensor&>> parts;
  std::vector<const DenseTensor*> wide;
};

template <typename Half>
struct Argument<Half, std::vector<DenseTensor*>> {
  Argument(const CPUContext& context, const std::vector<DenseTensor*>& list) {
    for (auto* out : list) parts.emplace_back(context, out);
    for (auto& part : parts) wide.push_back(part.get());
  }
  std::vector<DenseTensor*> get() { return wide; }
  void finish(const CPUContext& context) {
    for (auto& part : parts) part.finish(context);
  }
  std::list<Argument<Half, DenseTensor*>> parts;
  std::vector<DenseTensor*> wide;
};

template <int operation, typename Half, typename... A>
struct Kernel {
  using Function = void (*)(const CPUContext&, A...);
  static inline Function float32 = nullptr;

  static void compute(const CPUContext& context, A... given) {
    std::tuple<Argument<Half, A>...> arguments{Argument<Half, A>(context, given)...};
    std::apply([&](auto&... a) { float32(context, a.get()...); (a.finish(context), ...); }, arguments);
  }
};

void unused(phi::KernelContext*) { std::abort(); }  // dygraph calls a kernel by its own signature

template <int operation, typename Half, typename... A>
void add(const std::string& name, void (*)(const CPUContext&, A...)) {
  auto& kernels = phi::KernelFactory::Instance().kernels()[name];
  phi::KernelKey key(phi::Backend::CPU, phi::DataLayout::ALL_LAYOUT, phi::DataType::FLOAT32);
  if (!kernels.count(key)) throw std::runtime_error("this Paddle has no float32 CPU kernel of " + name);
  using Ours = Kernel<operation, Half, A...>;
  Ours::float32 = kernels[key].template GetVariadicKernelFn<typename Ours::Function>();
  phi::Kernel kernel(unused, reinterpret_cast<void*>(&Ours::compute));
  *kernel.mutable_args_def() = *kernels[key].mutable_args_def();
  key.set_dtype(phi::CppTypeToDataType<Half>::Type());
  kernels[key] = kernel;
}

#define ADD(name, kernel)                                                                           \
  add<__COUNTER__, phi::dtype::bfloat16>(name, decltype(&phi::kernel<float, CPUContext>)(nullptr)); \
  add<__COUNTER__, phi::dtype::float16>(name, decltype(&phi::kernel<float, CPUContext>)(nullptr))

void operations() {
  ADD("matmul", MatmulKernel);
  ADD("matmul_grad", MatmulGradKernel);
  ADD("add", AddKernel);
  ADD("add_grad", AddGradKernel);
  ADD("multiply", MultiplyKernel);
  ADD("multiply_grad", MultiplyGradKernel);
  ADD("gelu", GeluKernel);
  ADD("gelu_grad", GeluGradKernel);
  ADD("softmax", SoftmaxKernel);
  ADD("softmax_grad", SoftmaxGradKernel);
  ADD("layer_norm", LayerNormKernel);
  ADD("layer_norm_grad", LayerNormGradKernel);
  ADD("relu", ReluKernel);
  ADD("relu_grad", ReluGradKernel);
  ADD("concat_grad", ConcatGradKernel);
  ADD("conv2d", ConvKernel);
  ADD("conv2d_grad", ConvGradKernel);
}

C_Status allocate(const C_Device, void** place, size_t size) {
  *place = std::malloc(size);
  return *place ? C_SUCCESS : C_FAILED;
}

C_Status deallocate(const C_Device, void* place, size_t) {
  std::free(place);
  return C_SUCCESS;
}

C_Status memory(const C_Device, size_t* total, size_t* free) {
  *total = *free = size_t{4} << 30;
  return C_SUCCESS;
}

C_Status largest(const C_Device, size_t* size) {
  *size = size_t{1} << 30;
  return C_SUCCESS;
}

}  // namespace

extern "C" void InitPlugin(CustomRuntimeParams* params) {
  InitFakeCPUDevice(params);
  params->device_type = const_cast<char*>("half_cpu");
  params->interface->device_memory_allocate = allocate;
  params->interface->device_memory_deallocate = deallocate;
  params->interface->device_memory_stats = memory;
  params->interface->device_max_alloc_size = largest;
  params->interface->device_max_chunk_size = largest;
  operations();
}
