/* 3x3 convolutions that keep the map's size, by Winograd's F(2x2, 3x3): 16 products for 4 outputs instead of 36.

   Lavin & Gray 2016: an output tile of 2x2 pixels is A^T [(G g G^T) * (B^T d B)] A, with d the 4x4 pixels around it.
   G g G^T is known with the weights. Per channel, B^T d B is 32 additions and A^T m A 24. */

#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "convolution.h"

/* (out, in, 3, 3) -> G g G^T as [tile][point][in][TILE]; flip: taps reversed, for the transpose. */
static void lay_points(int cin, int cout, const float *plain, int64_t by_out, int64_t by_in, int flip, float *to) {
    for (int o = 0; o < cout; o++)
        for (int c = 0; c < cin; c++) {
            float rows[4][3];
            for (int x = 0; x < 3; x++) {
                float g[3];
                for (int y = 0; y < 3; y++) g[y] = plain[o * by_out + c * by_in + (flip ? 8 - (3 * y + x) : 3 * y + x)];
                rows[0][x] = g[0];
                rows[1][x] = 0.5f * (g[0] + g[1] + g[2]);
                rows[2][x] = 0.5f * (g[0] - g[1] + g[2]);
                rows[3][x] = g[2];
            }
            for (int y = 0; y < 4; y++) {
                const float *r = rows[y];
                const float points[4] = {r[0], 0.5f * (r[0] + r[1] + r[2]), 0.5f * (r[0] - r[1] + r[2]), r[2]};
                for (int x = 0; x < 4; x++)
                    to[(((int64_t)(o / TILE) * POINTS + 4 * y + x) * cin + c) * TILE + o % TILE] = points[x];
            }
        }
}

/* Vectors of one point's channels of two tiles. The odd one keeps points off each other's sets of the cache. */
static int64_t point_size(int cin) { return 2 * cin + 2; }

/* B^T d B of all channels of the 4x4 pixels whose corner is at (top, left): to[point][channel][2]. */
static void transform_in(const Map *map, int cin, int group, int top, int left, vec *to) {
    const int64_t size = point_size(cin);
    const vec *at[4][4];
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) {
            const int sy = top + y, sx = left + x;
            const int outside = sy < 0 || sy >= map->height || sx < 0 || sx >= map->width;
            at[y][x] = (const vec *)(outside ? border
                                             : map->in[group] + ((int64_t)sy * map->width + sx) * map->stride * V);
        }
    for (int c = 0; c < cin; c++) {
        vec rows[4][4];
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) {
            const vec a = at[0][x][c], b = at[1][x][c], d = at[2][x][c], e = at[3][x][c];
            rows[0][x] = a - d;
            rows[1][x] = b + d;
            rows[2][x] = d - b;
            rows[3][x] = b - e;
        }
#pragma GCC unroll 4
        for (int y = 0; y < 4; y++) {
            const vec *r = rows[y];
            to[(4 * y + 0) * size + 2 * c] = r[0] - r[2];
            to[(4 * y + 1) * size + 2 * c] = r[1] + r[2];
            to[(4 * y + 2) * size + 2 * c] = r[2] - r[1];
            to[(4 * y + 3) * size + 2 * c] = r[1] - r[3];
        }
    }
}

/* Sums over channels at one point, of two output tiles: in[channel][2], out[TILE][2]. */
static inline void point(int cin, const float *weight, const vec *in, vec *out) {
#define DECLARE_POINT(j) vec a##j = zero_vec, b##j = zero_vec;
    EACH(DECLARE_POINT)
    for (int c = 0; c < cin; c++, weight += TILE, in += 2) {
        const vec xa = in[0], xb = in[1];
        EACH(STEP)
    }
#define STORE_POINT(j) out[2 * j] = a##j; out[2 * j + 1] = b##j;
    EACH(STORE_POINT)
}

/* As `convolve` with kernel 3 and pad 1 on maps of even sides. points: as `lay_points` writes them; room: POINTS *
   point_size(cin) vectors. */
static void convolve_points(int cin, int cout, int height, int width, const Groups *groups, const float *points,
                            const float *bias, int stride, int epilogue, vec *room) {
    const Map map = {3, 1, height, width, stride, groups->in};
    const int across = width / 2, each = across * (height / 2), total = groups->count * each;
    const int64_t tile_size = (int64_t)POINTS * cin * TILE;
    for (int p = 0; p < total; p += 2) {
        const int q = p + 1 < total ? p + 1 : p;
        const int group[2] = {p % groups->count, q % groups->count};
        const int place[2] = {p / groups->count, q / groups->count};
        for (int which = 0; which < 2; which++)
            transform_in(&map, cin, group[which], place[which] / across * 2 - 1, place[which] % across * 2 - 1,
                         room + which);
        for (int first = 0; first < cout; first += TILE) {
            vec sums[POINTS][2 * TILE];
            for (int k = 0; k < POINTS; k++)
                point(cin, points + first / TILE * tile_size + (int64_t)k * cin * TILE, room + k * point_size(cin), sums[k]);
            const int count = cout - first < TILE ? cout - first : TILE;
            for (int which = 0; which < (p == q ? 1 : 2); which++) {
                vec result[4][TILE];
                for (int j = 0; j < count; j++) {
                    vec rows[2][4];
                    const vec start = splat(bias[first + j]);
#pragma GCC unroll 4
                    for (int x = 0; x < 4; x++) {
                        const vec a = sums[x][2 * j + which], b = sums[4 + x][2 * j + which];
                        const vec d = sums[8 + x][2 * j + which], e = sums[12 + x][2 * j + which];
                        rows[0][x] = a + b + d;
                        rows[1][x] = b - d - e;
                    }
#pragma GCC unroll 2
                    for (int y = 0; y < 2; y++) {
                        result[2 * y][j] = start + (rows[y][0] + rows[y][1] + rows[y][2]);
                        result[2 * y + 1][j] = start + (rows[y][1] - rows[y][2] - rows[y][3]);
                    }
                }
                for (int corner = 0; corner < 4; corner++) {
                    const int y = place[which] / across * 2 + corner / 2, x = place[which] % across * 2 + corner % 2;
                    const int64_t at = ((int64_t)(y * width + x) * cout + first) * V;
                    finish(result[corner], count, epilogue, groups->out[group[which]], groups->signs[group[which]], at);
                }
            }
        }
    }
}

#endif
