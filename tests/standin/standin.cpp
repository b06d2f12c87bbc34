/* A device of PyTorch's that needs no hardware: host memory that no CPU code can touch, and copies
 * as late as PyTorch allows.
 *
 * Its memory is closed to the process but while one of the functions below works on it: whoever
 * takes a tensor's address for the CPU's ends in a segmentation fault. A non-blocking copy from
 * pinned memory waits until somebody asks for an event or for the device, and reads its source
 * only then: whoever writes to the source before, or frees it, gets wrong values.
 *
 * Operators that are not here run on the CPU, with copies there and back. */
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(KIND, 0);

std::recursive_mutex lock;

/* Memory. */

std::map<char *, size_t> closed; /* addresses of whole pages, and their lengths */
std::set<const void *> pinned;

size_t pages(size_t length)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (length + page) / page * page;
}

void give_back(void *address)
{
    std::lock_guard<std::recursive_mutex> guard(lock);
    munmap(address, closed[(char *)address]);
    closed.erase((char *)address);
}

struct DeviceAllocator final : c10::Allocator {
    c10::DataPtr allocate(size_t length) override
    {
        std::lock_guard<std::recursive_mutex> guard(lock);
        void *p = mmap(nullptr, pages(length), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        TORCH_CHECK(p != MAP_FAILED, "standin: out of memory");
        closed[(char *)p] = pages(length);
        return {p, p, give_back, DEVICE};
    }
    c10::DeleterFnPtr raw_deleter() const override { return give_back; }
    void copy_data(void *, const void *, size_t) const override
    {
        TORCH_CHECK(false, "standin: copy_data");
    }
} device_allocator;

void unpin(void *address)
{
    std::lock_guard<std::recursive_mutex> guard(lock);
    pinned.erase(address);
    std::free(address);
}

struct PinnedAllocator final : c10::Allocator {
    c10::DataPtr allocate(size_t length) override
    {
        std::lock_guard<std::recursive_mutex> guard(lock);
        void *p = std::malloc(length + 1);
        pinned.insert(p);
        return {p, p, unpin, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return unpin; }
    void copy_data(void *to, const void *from, size_t n) const override { memcpy(to, from, n); }
} pinned_allocator;

bool is_pinned(const void *address)
{
    std::lock_guard<std::recursive_mutex> guard(lock);
    return pinned.count(address) > 0;
}

/* Opens the memory of a tensor while it lives. */
struct Open {
    char *first = nullptr;
    size_t length = 0;

    explicit Open(const at::TensorBase &t)
    {
        if (t.device().type() != KIND || t.storage().nbytes() == 0)
            return;
        first = (char *)t.storage().data_ptr().get();
        length = closed.at(first);
        mprotect(first, length, PROT_READ | PROT_WRITE);
    }
    ~Open()
    {
        if (first != nullptr)
            mprotect(first, length, PROT_NONE);
    }
};

at::Tensor on_cpu(const at::Tensor &t)
{
    auto options = t.options().device(c10::DeviceType::CPU).requires_grad(false);
    return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), options);
}

void copy_now(const at::Tensor &from, const at::Tensor &to)
{
    Open source(from), target(to);
    auto cpu = on_cpu(to);
    cpu.copy_(on_cpu(from));
}

/* Copies that wait. The source is known by its address alone, as to hardware. */

struct Copy {
    at::Tensor from, to;
};
std::deque<Copy> waiting;
uint64_t done = 0, late = 0; /* copies done in all, and those of them that had to wait */

void run_until(uint64_t copies)
{
    std::lock_guard<std::recursive_mutex> guard(lock);
    for (; done < copies && !waiting.empty(); done++, waiting.pop_front())
        copy_now(waiting.front().from, waiting.front().to);
}

void run_all() { run_until(UINT64_MAX); }

at::Tensor copy_from(const at::Tensor &from, const at::Tensor &to, bool non_blocking)
{
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (to.numel() == 0)
        return to;
    if (non_blocking && from.is_cpu() && is_pinned(from.storage().data()) &&
        from.strides() == to.strides() && from.dtype() == to.dtype()) {
        waiting.push_back({on_cpu(from), to});
        late++;
    } else {
        run_all();
        copy_now(from.expand_as(to), to);
    }
    return to;
}

/* Operators. */

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format)
{
    constexpr c10::DispatchKeySet key(c10::DispatchKey::PrivateUse1);
    return at::detail::empty_generic(size, &device_allocator, key, c10::dtype_or_default(dtype),
                                     format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>)
{
    constexpr c10::DispatchKeySet key(c10::DispatchKey::PrivateUse1);
    return at::detail::empty_strided_generic(size, stride, &device_allocator, key,
                                             c10::dtype_or_default(dtype));
}

at::Tensor as_strided(const at::Tensor &self, c10::IntArrayRef size, c10::IntArrayRef stride,
                      std::optional<int64_t> offset)
{
    return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor view(const at::Tensor &self, c10::IntArrayRef size)
{
    return at::native::view(self, size);
}

at::Tensor copy_result(const at::Tensor &from, const at::Tensor &to)
{
    TORCH_CHECK(from.sizes() == to.sizes(), "standin: a result of another size");
    return copy_from(from, to, false);
}

at::Tensor &fill(at::Tensor &self, const at::Scalar &value)
{
    run_all();
    Open target(self);
    on_cpu(self).fill_(value);
    return self;
}

at::Tensor &zero(at::Tensor &self) { return fill(self, 0); }

void on_the_cpu(const c10::OperatorHandle &op, torch::jit::Stack *stack)
{
    at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m)
{
    m.impl("empty.memory_format", empty);
    m.impl("empty_strided", empty_strided);
    m.impl("as_strided", as_strided);
    m.impl("view", view);
    m.impl("_copy_from", copy_from);
    m.impl("_copy_from_and_resize", copy_result);
    m.impl("fill_.Scalar", fill);
    m.impl("zero_", zero);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m)
{
    m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

/* Devices, streams and events: there is one of each of the first two. */

struct Guard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return KIND; }
    c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
    c10::Device getDevice() const override { return DEVICE; }
    void setDevice(c10::Device) const override {}
    void uncheckedSetDevice(c10::Device) const noexcept override {}
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
    c10::Stream getStream(c10::Device) const override
    {
        return c10::Stream(c10::Stream::DEFAULT, DEVICE);
    }
    c10::Stream getDefaultStream(c10::Device d) const override { return getStream(d); }
    c10::Stream exchangeStream(c10::Stream s) const override { return s; }
    void record(void **event, const c10::Stream &, const c10::DeviceIndex,
                const c10::EventFlag) const override
    {
        std::lock_guard<std::recursive_mutex> guard(lock);
        if (*event == nullptr)
            *event = new uint64_t;
        *(uint64_t *)*event = done + waiting.size();
    }
    void block(void *, const c10::Stream &) const override {}
    bool queryEvent(void *event) const override { return *(uint64_t *)event <= done; }
    void synchronizeEvent(void *event) const override { run_until(*(uint64_t *)event); }
    void synchronizeStream(const c10::Stream &) const override { run_all(); }
    void synchronizeDevice(const c10::DeviceIndex) const override { run_all(); }
    void destroyEvent(void *event, const c10::DeviceIndex) const noexcept override
    {
        delete (uint64_t *)event;
    }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    c10::DeviceIndex deviceCount() const override { return 1; }
    c10::DeviceIndex getCurrentDevice() const override { return 0; }
    void setCurrentDevice(c10::DeviceIndex) const override {}
    c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
    c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
    bool isPinnedPtr(const void *data) const override { return is_pinned(data); }
    at::Allocator *getPinnedMemoryAllocator() const override { return &pinned_allocator; }
    at::Device getDeviceFromPtr(void *) const override { return DEVICE; }
    at::Generator getNewGenerator(c10::DeviceIndex) const override
    {
        return at::detail::createCPUGenerator();
    }
};

/* Before anyone asks for the device. */
const bool registered = [] {
    c10::SetAllocator(KIND, &device_allocator);
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    return true;
}();

} // namespace

extern "C" uint64_t standin_late_copies(void) { return late; }
