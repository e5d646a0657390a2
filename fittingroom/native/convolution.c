/* Around the kernels of convolution.h and dense.h: sizes, the weights' order, and the sums of blocks. kernels.c includes this file. */

static struct job prepare_convolution(const struct convolution_call *call, struct convolution *c, const struct level *level, int *failed) {
    struct job job = {0};
    const int64_t lanes = level->lanes;
    *c = (struct convolution){
        .x = call->x, .out = call->out, .grad_out = call->grad_out, .grad_x = call->grad_x, .grad_weight = call->grad_weight, .grad_bias = call->grad_bias,
        .inputs = call->inputs, .height = call->height, .width = call->width,
        .outputs = call->outputs, .out_height = call->out_height, .out_width = call->out_width,
        .kernel_height = call->kernel_height, .kernel_width = call->kernel_width, .top = call->top, .left = call->left,
        .wide_x = (int)call->wide_x, .wide_out = (int)call->wide_out, .failed = failed,
    };
    c->places = lanes == 16 && c->outputs <= MOST_OUTPUTS_OF_PLACES && (c->wide_out || c->outputs % 2 == 0);
    c->pairs = level->pairs && !c->wide_out && !c->places;
    c->run = c->kernel_width * c->inputs;
    c->taps = c->kernel_height * c->run;
    c->run_words = c->pairs ? (c->run + 1) / 2 : c->run;
    c->output_words = c->pairs ? (c->outputs + 1) / 2 : c->outputs;
    c->padded_outputs = (c->outputs + lanes - 1) / lanes * lanes;
    c->across_size = c->kernel_height * ((c->run + lanes - 1) / lanes * lanes);
    c->plane_row = c->out_width + c->kernel_width - 1;
    c->plane = (c->out_height + c->kernel_height - 1) * c->plane_row;
    c->row = c->plane_row * c->inputs;
    c->frame = c->plane * c->inputs + lanes; /* vectors and pairs may reach beyond the last place */
    c->partial_size = (c->taps + 1) * c->padded_outputs;
    job.convolution = c;
    job.batch = call->batch;
    job.threads = (int)call->threads;
    job.blocks = call->batch < IMAGE_BLOCKS ? call->batch : IMAGE_BLOCKS;
    job.elements = call->batch * c->out_height * c->out_width * c->outputs * c->taps / 16; /* sixteen products are about one element's work */
    return job;
}

/* The weight of output channel o at row y and place j = column · inputs + input channel. */
static float *weight_at(const struct convolution_call *call, float *weight, int64_t o, int64_t y, int64_t j) {
    const int64_t inputs = call->inputs;
    return weight + o * call->stride_output + y * call->stride_row + j / inputs * call->stride_column + j % inputs * call->stride_input;
}
/* Write number `i` of those that go to lane `lane` of vectors of `width` words, `stride` words apart: each a word, or two in one. */
static void put(const struct convolution *c, float *words, int64_t i, int64_t stride, int64_t lane, float value) {
    if (c->pairs) ((uint16_t *)(words + i / 2 * stride + lane))[i % 2] = rounded(value);
    else words[i * stride + lane] = value;
}

/* Returns 0, or 1 when there is no memory. */
EXPORT int64_t fittingroom_convolve(const struct convolution_call *call) {
    struct convolution c;
    int failed = 0;
    struct job job = prepare_convolution(call, &c, &chosen, &failed);
    float *weight = calloc((size_t)c.partial_size, sizeof(float)), *bias = weight + c.taps * c.padded_outputs;
    if (!weight) return 1;
    for (int64_t o = 0; o < c.outputs; o++) {
        for (int64_t y = 0; y < c.kernel_height; y++)
            for (int64_t j = 0; j < c.run; j++)
                put(&c, weight + y * c.run_words * c.padded_outputs, j, c.padded_outputs, o, *weight_at(call, call->weight, o, y, j));
        if (call->bias) bias[o] = call->bias[o];
    }
    c.weight = weight, c.bias = bias;
    in_parallel(&job, c.places ? chosen.convolve_places : chosen.convolve, job.batch);
    free(weight);
    return failed;
}

EXPORT int64_t fittingroom_convolve_back(const struct convolution_call *call) {
    struct convolution c;
    int failed = 0;
    struct job job = prepare_convolution(call, &c, &chosen, &failed);
    const int64_t across = c.grad_x ? c.output_words * c.across_size : 0, length = c.across_size / c.kernel_height;
    float *memory = malloc((size_t)(across + job.blocks * c.partial_size) * sizeof(float));
    if (!memory) return 1;
    if (across) {
        memset(memory, 0, (size_t)across * sizeof(float));
        for (int64_t o = 0; o < c.outputs; o++)
            for (int64_t y = 0; y < c.kernel_height; y++)
                for (int64_t j = 0; j < c.run; j++) put(&c, memory, o, c.across_size, y * length + j, *weight_at(call, call->weight, o, y, j));
    }
    c.across = memory, c.partial = memory + across;
    in_parallel(&job, c.places ? chosen.convolve_places_back : chosen.convolve_back, job.blocks);
    if (c.grad_weight) {
        chosen.combine(&job, 0, c.partial_size / chosen.lanes);
        for (int64_t o = 0; o < c.outputs; o++) {
            for (int64_t y = 0; y < c.kernel_height; y++)
                for (int64_t j = 0; j < c.run; j++)
                    *weight_at(call, call->grad_weight, o, y, j) = c.partial[(y * c.run + j) * c.padded_outputs + o];
            if (call->grad_bias) call->grad_bias[o] = c.partial[c.taps * c.padded_outputs + o];
        }
    }
    free(memory);
    return failed;
}

/* A dense layer: a convolution of one place whose weights, [outputs, inputs], are in order. Returns 0, or 1 when there is no memory. */
EXPORT int64_t fittingroom_dense(const struct convolution_call *call) {
    struct convolution c;
    int failed = 0;
    struct job job = prepare_convolution(call, &c, &chosen, &failed);
    c.weight = call->weight, c.bias = call->bias;
    in_parallel(&job, chosen.dense, c.outputs);
    return failed;
}
EXPORT int64_t fittingroom_dense_back(const struct convolution_call *call) {
    struct convolution c;
    int failed = 0;
    struct job job = prepare_convolution(call, &c, &chosen, &failed);
    c.weight = call->weight;
    in_parallel(&job, chosen.dense_back, (c.inputs + chosen.lanes - 1) / chosen.lanes);
    return failed;
}
