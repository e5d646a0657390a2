/* Around the kernels of winograd.h: sizes, memory, and what is done after what. kernels.c includes this file. */

#define TILES_MEMORY (192 * 1024)  /* numbers that a group of tiles takes, about: they should stay in the second cache … */
#define GROUP_MEMORY (384 * 1024) /* … or, where all threads work on one group, in the last one */
#define FEWEST_AT_ONCE 60          /* tiles in such a group: sums are read and written once for each */

static struct winograd prepare_winograd(const struct convolution_call *call, int *failed) {
    struct winograd w = {
        .x = call->x, .out = call->out, .grad_out = call->grad_out, .weight = call->weight, .bias = call->bias,
        .grad_weight = call->grad_weight, .grad_bias = call->grad_bias,
        .inputs = call->inputs, .height = call->height, .width = call->width,
        .outputs = call->outputs, .out_height = call->out_height, .out_width = call->out_width,
        .kernel = call->kernel_height, .tile = 7 - call->kernel_height, .top = call->top, .left = call->left,
        .stride_output = call->stride_output, .stride_input = call->stride_input, .stride_row = call->stride_row, .stride_column = call->stride_column,
        .failed = failed,
    };
    w.tiles_down = (w.out_height + w.tile - 1) / w.tile;
    w.tiles_across = (w.out_width + w.tile - 1) / w.tile;
    w.tiles = call->batch * w.tiles_down * w.tiles_across;
    w.panels = (w.outputs + 2 * chosen.lanes - 1) / (2 * chosen.lanes);
    return w;
}
static struct job winograd_job(const struct winograd *w, const struct convolution_call *call) {
    return (struct job){.winograd = w, .threads = (int)call->threads, .places = call->batch * call->out_height * call->out_width, .elements = SERIAL_ELEMENTS};
}
/* Tiles of which `numbers` fit into the memory meant for them, in whole products. */
static int64_t tiles_at_once(const struct winograd *w, int64_t memory, int64_t fewest) {
    const int64_t tile = 36 * (w->inputs + w->panels * 2 * chosen.lanes), fitting = memory / tile / 6 * 6, all = (w->tiles + 5) / 6 * 6;
    const int64_t some = fitting < fewest ? fewest : fitting;
    return some < all ? some : all;
}
/* Where what belongs to different points stands. A line more than needed: at multiples of 4,096 bytes, as often as not, all of it would
 * fall into the same few places of the first cache. */
static void set_apart(struct winograd *w) {
    const int64_t columns = w->panels * 2 * chosen.lanes;
    w->spread_apart = w->at_once * w->inputs + 16;
    w->columns_apart = w->at_once * columns + 16;
    w->kernels_apart = w->inputs * columns + 16;
}
static int convolve_winograd(struct winograd *w, const struct convolution_call *call) {
    struct job job = winograd_job(w, call);
    w->at_once = tiles_at_once(w, TILES_MEMORY, 6);
    set_apart(w);
    w->kernels = aligned_memory(36 * w->kernels_apart);
    if (!w->kernels) return 1;
    in_parallel(&job, chosen.kernels_at_points, w->inputs / chosen.lanes);
    in_parallel(&job, chosen.convolve_tiles, (w->tiles + w->at_once - 1) / w->at_once);
    free(w->kernels);
    return *w->failed;
}
static int kernel_gradient(struct winograd *w, const struct convolution_call *call) {
    struct job job = winograd_job(w, call);
    const int64_t columns = w->panels * 2 * chosen.lanes;
    w->at_once = tiles_at_once(w, GROUP_MEMORY, FEWEST_AT_ONCE);
    set_apart(w);
    float *memory = aligned_memory(36 * (w->spread_apart + w->columns_apart + w->kernels_apart));
    if (!memory) return 1;
    w->spread = memory, w->gradients = w->spread + 36 * w->spread_apart, w->sums = w->gradients + 36 * w->columns_apart;
    if (columns > w->outputs) memset(w->gradients, 0, (size_t)(36 * w->columns_apart) * sizeof(float)); /* columns without a channel */
    for (w->first = 0; w->first < w->tiles; w->first += w->at_once) {
        w->count = w->tiles - w->first < w->at_once ? w->tiles - w->first : w->at_once;
        in_parallel(&job, chosen.group_at_points, w->count);
        in_parallel(&job, chosen.add_products, 36);
    }
    in_parallel(&job, chosen.kernels_from_points, w->inputs / chosen.lanes);
    free(memory);
    return 0;
}

/* Returns 0, or 1 when there is no memory. */
EXPORT int64_t fittingroom_winograd(const struct convolution_call *call) {
    int failed = 0;
    struct winograd w = prepare_winograd(call, &failed);
    return convolve_winograd(&w, call);
}
EXPORT int64_t fittingroom_winograd_back(const struct convolution_call *call) {
    int failed = 0;
    struct winograd w = prepare_winograd(call, &failed);
    if (call->grad_weight && kernel_gradient(&w, call)) return 1;
    if (call->grad_bias) {
        struct job job = winograd_job(&w, call);
        in_parallel(&job, chosen.sum_places, w.outputs / chosen.lanes);
    }
    if (!call->grad_x) return 0;
    /* A convolution of the output's gradient with the kernel turned around, in which inputs and outputs change places. */
    struct convolution_call turned = *call;
    const int64_t last = call->kernel_height - 1;
    turned.x = call->grad_out, turned.out = call->grad_x, turned.bias = NULL;
    turned.inputs = call->outputs, turned.height = call->out_height, turned.width = call->out_width;
    turned.outputs = call->inputs, turned.out_height = call->height, turned.out_width = call->width;
    turned.top = last - call->top, turned.left = last - call->left;
    turned.weight = call->weight + last * (call->stride_row + call->stride_column);
    turned.stride_output = call->stride_input, turned.stride_input = call->stride_output;
    turned.stride_row = -call->stride_row, turned.stride_column = -call->stride_column;
    w = prepare_winograd(&turned, &failed);
    return convolve_winograd(&w, call);
}
